//! `HEALTHCHECK`.

use super::super::error::Refusal;
use super::super::flag::Flags;
use super::command::Command;

/// How the health of a container is probed. Durations are nanoseconds; 0: what the base says, or the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// `HEALTHCHECK NONE`: what the base says does not count.
    None,
    /// A probe.
    Probe {
        /// What is run.
        command: Command,
        /// Between two probes.
        interval: i64,
        /// For one probe.
        timeout: i64,
        /// While failures do not count.
        start_period: i64,
        /// Between two probes in that time.
        start_interval: i64,
        /// Failures in a row that make a container unhealthy.
        retries: u32,
    },
}

pub(super) fn healthcheck(flags: &mut Flags, rest: &str) -> Result<Healthcheck, Refusal> {
    let (kind, rest) = super::first_word(rest);
    match kind.to_ascii_uppercase().as_str() {
        "" => Err("HEALTHCHECK requires at least one argument".to_owned().into()),
        "NONE" if rest.is_empty() => {
            if flags.is_empty() {
                Ok(Healthcheck::None)
            } else {
                Err("HEALTHCHECK NONE takes no arguments".to_owned().into())
            }
        }
        "NONE" => Err("HEALTHCHECK NONE takes no arguments".to_owned().into()),
        "CMD" => {
            let command = Command::parse(rest)?;
            if matches!(&command, Command::Exec(words) if words.is_empty()) || rest.is_empty() {
                return Err("Missing command after HEALTHCHECK CMD".to_owned().into());
            }
            Ok(Healthcheck::Probe {
                command,
                interval: duration(flags, "interval")?,
                timeout: duration(flags, "timeout")?,
                start_period: duration(flags, "start-period")?,
                start_interval: duration(flags, "start-interval")?,
                retries: retries(flags)?,
            })
        }
        _ => Err(format!("Unknown type \"{kind}\" in HEALTHCHECK (try CMD)").into()),
    }
}

fn retries(flags: &mut Flags) -> Result<u32, String> {
    let Some(text) = flags.string("retries")? else { return Ok(0) };
    let retries: i64 =
        text.parse().map_err(|_| format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))?;
    u32::try_from(retries).map_err(|_| format!("--retries cannot be negative ({retries})"))
}

fn duration(flags: &mut Flags, name: &'static str) -> Result<i64, String> {
    let Some(text) = flags.string(name)? else { return Ok(0) };
    let unitless = !text.is_empty() && text.chars().all(|part| part.is_ascii_digit() || part == '.');
    let wrong = || {
        let what = if unitless { "missing unit in" } else { "invalid" };
        format!("time: {what} duration \"{text}\"")
    };
    let nanoseconds = go_duration(&text).ok_or_else(wrong)?;
    if nanoseconds < 0 {
        return Err(format!("Interval \"{name}\" cannot be negative"));
    }
    if nanoseconds != 0 && nanoseconds < 1_000_000 {
        return Err(format!("Interval \"{name}\" cannot be less than 1ms"));
    }
    Ok(nanoseconds)
}

/// A duration as Go writes it (`1m30s`, `0.5h`), in nanoseconds.
fn go_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    rest = rest.strip_prefix('+').unwrap_or(rest);
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0f64;
    while !rest.is_empty() {
        let digits = rest.find(|part: char| !part.is_ascii_digit() && part != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let units = rest.find(|part: char| part.is_ascii_digit() || part == '.').unwrap_or(rest.len());
        let unit = match &rest[..units] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 6e10,
            "h" => 3.6e12,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[units..];
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked against the range")]
    let whole = (total < 9.2e18).then_some(total.round() as i64)?;
    Some(if negative { -whole } else { whole })
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn read(line: &str) -> Result<super::super::Instruction, String> {
        parse(line, Vec::new(), '\\').map_err(|refusal| refusal.message().to_owned())
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(go_duration("1m30s"), Some(90_000_000_000));
        assert_eq!(go_duration("1.5s"), Some(1_500_000_000));
        assert_eq!((go_duration("-2ms"), go_duration("5"), go_duration("")), (Some(-2_000_000), None, None));
    }

    #[test]
    fn probes_are_checked() {
        let super::super::Instruction::Healthcheck(Healthcheck::Probe { interval, retries, .. }) =
            read("HEALTHCHECK --interval=5s --retries=2 CMD true").unwrap()
        else {
            panic!("no probe");
        };
        assert_eq!((interval, retries), (5_000_000_000, 2));
        assert_eq!(read("HEALTHCHECK NONE x").unwrap_err(), "HEALTHCHECK NONE takes no arguments");
        assert_eq!(read("HEALTHCHECK CMD").unwrap_err(), "Missing command after HEALTHCHECK CMD");
        assert_eq!(read("HEALTHCHECK foo").unwrap_err(), "Unknown type \"foo\" in HEALTHCHECK (try CMD)");
        assert_eq!(
            read("HEALTHCHECK --timeout=1ns CMD a").unwrap_err(),
            "Interval \"timeout\" cannot be less than 1ms"
        );
    }
}

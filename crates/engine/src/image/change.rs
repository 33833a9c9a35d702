//! Dockerfile instructions that change an image's config, as `import --change` and `commit --change` take them.

use wharf_oci::image::{Config, Empty, Healthcheck};

use crate::error::{Error, Result};

/// Applies instructions in order.
pub fn apply(config: &mut Config, changes: &[String]) -> Result<()> {
    changes
        .iter()
        .flat_map(|change| change.lines())
        .filter(|line| !line.trim().is_empty())
        .try_for_each(|line| one(config, line.trim()))
}

fn one(config: &mut Config, line: &str) -> Result<()> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let word = word.to_uppercase();
    let known = matches!(
        word.as_str(),
        "CMD"
            | "ENTRYPOINT"
            | "ENV"
            | "EXPOSE"
            | "HEALTHCHECK"
            | "LABEL"
            | "ONBUILD"
            | "STOPSIGNAL"
            | "USER"
            | "VOLUME"
            | "WORKDIR"
    );
    if !known {
        return Err(Error::invalid(format!("{word} is not a valid change command")));
    }
    if rest.is_empty() && !matches!(word.as_str(), "CMD" | "ENTRYPOINT") {
        return Err(Error::invalid(format!("{word} requires at least one argument")));
    }
    match word.as_str() {
        "CMD" => config.cmd = Some(command(rest, &config.shell)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest, &config.shell)),
        "ENV" => {
            pairs("ENV", rest)?.into_iter().for_each(|(name, value)| set_env(&mut config.env, &name, &value))
        }
        "LABEL" => config.labels.extend(pairs("LABEL", rest)?),
        "EXPOSE" => {
            for port in words(rest, &[]) {
                expose(config, &port)?;
            }
        }
        "VOLUME" => {
            let paths = json_list(rest).unwrap_or_else(|| words(rest, &[]));
            if paths.iter().any(|path| path.trim().is_empty()) {
                return Err(Error::invalid("VOLUME specified can not be an empty string"));
            }
            config.volumes.extend(paths.into_iter().map(|path| (path, Empty {})));
        }
        "USER" => config.user = expand(rest, &config.env),
        "WORKDIR" => config.working_dir = join(&config.working_dir, &expand(rest, &config.env)),
        "STOPSIGNAL" => config.stop_signal = expand(rest, &config.env),
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest)?),
        _ => config.on_build.push(on_build(rest)?),
    }
    Ok(())
}

/// The JSON form as it is, the shell form behind the shell.
fn command(text: &str, shell: &[String]) -> Vec<String> {
    json_list(text).unwrap_or_else(|| {
        let mut argv =
            if shell.is_empty() { vec!["/bin/sh".to_owned(), "-c".to_owned()] } else { shell.to_vec() };
        argv.push(text.to_owned());
        argv
    })
}

fn json_list(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

/// `A=b "C"=d` or the old form `A b c`.
fn pairs(word: &str, text: &str) -> Result<Vec<(String, String)>> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        return match text.split_once(char::is_whitespace) {
            Some((name, value)) => Ok(vec![(name.to_owned(), value.trim().to_owned())]),
            None => Err(Error::invalid(format!("{word} must have two arguments"))),
        };
    }
    words(text, &[])
        .into_iter()
        .map(|pair| match pair.split_once('=') {
            Some(("", _)) => Err(Error::invalid(format!("{word} names can not be blank"))),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(Error::invalid(format!(
                "Syntax error - can't find = in {pair:?}. Must be of the form: name=value"
            ))),
        })
        .collect()
}

/// Sets a variable in place, or at the end.
fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let text = format!("{name}={value}");
    let same = |entry: &&mut String| entry.split_once('=').map_or(entry.as_str(), |(name, _)| name) == name;
    match env.iter_mut().find(same) {
        Some(entry) => *entry = text,
        None => env.push(text),
    }
}

/// Words, with quotes and backslashes taken off; `env` gives values for `$NAME`.
fn words(text: &str, env: &[String]) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quote, mut started) = (None, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => (quote, started) = (Some(c), true),
            ('\\', None | Some('"')) => word.extend(chars.next()),
            (c, None) if c.is_whitespace() => {
                if started || !word.is_empty() {
                    words.push(expand(&std::mem::take(&mut word), env));
                }
                started = false;
            }
            (c, _) => word.push(c),
        }
    }
    if started || !word.is_empty() {
        words.push(expand(&word, env));
    }
    words
}

/// Replaces `$NAME` and `${NAME}` by the image's own variables.
fn expand(text: &str, env: &[String]) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let braced = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, after) = braced.unwrap_or_else(|| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            rest.split_at(end)
        });
        if name.is_empty() {
            result.push('$');
        }
        let value = env.iter().find_map(|entry| entry.split_once('=').filter(|(key, _)| *key == name));
        result.push_str(value.map_or("", |(_, value)| value));
        rest = after;
    }
    result + rest
}

fn expose(config: &mut Config, port: &str) -> Result<()> {
    let refuse = || Error::invalid(format!("invalid containerPort: {port}"));
    let (range, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let protocol = protocol.to_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Error::invalid(format!("invalid proto: {protocol}")));
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u16, u16) =
        (first.parse().map_err(|_| refuse())?, last.parse().map_err(|_| refuse())?);
    if first > last {
        return Err(refuse());
    }
    config.exposed_ports.extend((first..=last).map(|port| (format!("{port}/{protocol}"), Empty {})));
    Ok(())
}

fn join(base: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("/{base}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn healthcheck(text: &str) -> Result<Healthcheck> {
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        let duration =
            || nanoseconds(value).ok_or_else(|| Error::invalid(format!("time: invalid duration {value:?}")));
        match name {
            "interval" => check.interval = duration()?,
            "timeout" => check.timeout = duration()?,
            "start-period" => check.start_period = duration()?,
            "start-interval" => check.start_interval = duration()?,
            "retries" => {
                check.retries = value
                    .parse()
                    .map_err(|_| Error::invalid(format!("--retries must be a number, got {value:?}")))?;
            }
            _ => return Err(Error::invalid(format!("unknown flag: {name}"))),
        }
        rest = after.trim_start();
    }
    let (word, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    check.test = match word.to_uppercase().as_str() {
        "NONE" => vec!["NONE".to_owned()],
        "CMD" if command.trim().is_empty() => {
            return Err(Error::invalid("Missing command after HEALTHCHECK CMD"));
        }
        "CMD" => match json_list(command.trim()) {
            Some(argv) => std::iter::once("CMD".to_owned()).chain(argv).collect(),
            None => vec!["CMD-SHELL".to_owned(), command.trim().to_owned()],
        },
        other => return Err(Error::invalid(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)"))),
    };
    Ok(check)
}

fn nanoseconds(text: &str) -> Option<i64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(split);
    // Compound durations (1m30s) are read part by part.
    let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
    let (unit, rest) = unit.split_at(end);
    let scale = match unit {
        "h" => 3_600_000_000_000.0,
        "m" => 60_000_000_000.0,
        "s" => 1_000_000_000.0,
        "ms" => 1_000_000.0,
        "us" => 1_000.0,
        "ns" => 1.0,
        _ => return None,
    };
    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    let value = (number.parse::<f64>().ok()? * scale) as i64;
    if rest.is_empty() { Some(value) } else { value.checked_add(nanoseconds(rest)?) }
}

fn on_build(text: &str) -> Result<String> {
    let word = text.split_whitespace().next().unwrap_or_default().to_uppercase();
    match word.as_str() {
        "ONBUILD" => Err(Error::invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        "MAINTAINER" | "FROM" => Err(Error::invalid(format!("{word} isn't allowed as an ONBUILD trigger"))),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Config {
        let mut config = Config::default();
        apply(&mut config, &changes.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        config
    }

    #[test]
    fn instructions_change_the_config_as_dockers_do() {
        let config = applied(&[
            "CMD foo bar",
            "ENTRYPOINT [\"a\"]",
            "ENV A=b \"C=d e\"",
            "env A 2 3",
            "EXPOSE 80 81/udp 90-91",
            "LABEL x=y",
            "VOLUME /v [\"no",
            "USER me",
            "WORKDIR w",
            "WORKDIR ../x",
            "STOPSIGNAL 9",
            "HEALTHCHECK --interval=1m30s --retries=2 CMD true",
            "ONBUILD RUN x",
        ]);
        assert_eq!(config.cmd.unwrap(), ["/bin/sh", "-c", "foo bar"]);
        assert_eq!(config.entrypoint.unwrap(), ["a"]);
        assert_eq!(config.env, ["A=2 3", "C=d e"]);
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["80/tcp", "81/udp", "90/tcp", "91/tcp"]);
        assert_eq!(config.labels["x"], "y");
        assert_eq!(config.working_dir, "/x");
        let check = config.healthcheck.unwrap();
        assert_eq!((check.interval, check.retries), (90_000_000_000, 2));
        assert_eq!(check.test, ["CMD-SHELL", "true"]);
        assert_eq!(config.on_build, ["RUN x"]);
    }

    #[test]
    fn other_instructions_are_refused_in_dockers_words() {
        let error = apply(&mut Config::default(), &["RUN x".to_owned()]).unwrap_err();
        assert_eq!(error.message(), "RUN is not a valid change command");
    }

    #[test]
    fn variables_of_the_image_are_expanded() {
        let config = applied(&["ENV HOME_DIR=/srv", "WORKDIR $HOME_DIR/app", "USER ${HOME_DIR}x"]);
        assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/srv/app", "/srvx"));
    }
}

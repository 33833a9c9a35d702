//! The values of a log driver's options.

use std::collections::BTreeMap;

use wharf_api::LogConfig;

use super::security::boolean;
use crate::error::{Error, Result};

/// A file is rotated at this size where nothing is said, in bytes.
const MAX_SIZE: u64 = 20_000_000;
/// Files kept where nothing is said.
const MAX_FILE: u32 = 5;

/// Checks the values of a log driver's options, which Docker looks at only at start.
///
/// # Errors
/// Values that are none, in Docker's words.
pub fn check(log: &LogConfig) -> Result<()> {
    let options = log.config.clone().unwrap_or_default();
    let limits = match log.r#type.as_str() {
        "json-file" => json_limits(&options),
        "local" => local_limits(&options),
        "journald" | "syslog" => Ok((None, 1)),
        _ => return Ok(()),
    };
    limits.and_then(|_| patterns(&options)).and_then(|()| tag(&options)).map_err(|why| {
        Error::internal(format!(
            "failed to create task for container: failed to initialize logging driver: {why}"
        ))
    })
}

fn patterns(options: &BTreeMap<String, String>) -> Result<(), String> {
    for name in ["labels-regex", "env-regex"] {
        if let Some(text) = options.get(name)
            && regex::Regex::new(text).is_err()
        {
            return Err(format!("error parsing regexp: `{text}`"));
        }
    }
    Ok(())
}

/// What a tag may name of a container (`logger.Info` of Docker's).
const FIELDS: [&str; 17] = [
    "Config",
    "ContainerID",
    "ContainerName",
    "ContainerEntrypoint",
    "ContainerArgs",
    "ContainerImageID",
    "ContainerImageName",
    "ContainerCreated",
    "ContainerEnv",
    "ContainerLabels",
    "LogPath",
    "DaemonName",
    "ID",
    "FullID",
    "Name",
    "ImageID",
    "ImageFullID",
];

/// Checks the template of a tag, in the words of Go's `text/template`.
fn tag(options: &BTreeMap<String, String>) -> Result<(), String> {
    let Some(text) = options.get("tag") else { return Ok(()) };
    let mut rest = text.as_str();
    while let Some(start) = rest.find("{{") {
        let inside = &rest[start + 2..];
        let Some(end) = inside.find("}}") else {
            return Err("template: log-tag:1: unclosed action".to_owned());
        };
        let action = inside[..end].trim().trim_matches('-').trim();
        if action.is_empty() {
            return Err("template: log-tag:1: missing value for command".to_owned());
        }
        let plain = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        match action.strip_prefix('.') {
            Some(field) if plain(field) && !FIELDS.contains(&field) && !MORE_FIELDS.contains(&field) => {
                let column = text.len() - inside.len() + inside[..end].find('.').unwrap_or(0);
                return Err(format!(
                    "template: log-tag:1:{column}: executing \"log-tag\" at <{action}>: can't evaluate field {field} in \
                     type *logger.Info"
                ));
            }
            None if plain(action) && !action.starts_with(|first: char| first.is_ascii_digit()) => {
                return Err(format!("template: log-tag:1: function {action:?} not defined"));
            }
            _ => {}
        }
        rest = &inside[end + 2..];
    }
    Ok(())
}

const MORE_FIELDS: [&str; 3] = ["ImageName", "Command", "ExtraAttributes"];

type Limits = Result<(Option<u64>, u32), String>;

fn json_limits(options: &BTreeMap<String, String>) -> Limits {
    let max_size = match options.get("max-size") {
        None => MAX_SIZE,
        Some(text) => match parse_size(text)? {
            0 => return Err("max-size must be a positive number".to_owned()),
            size => size,
        },
    };
    let max_file = match options.get("max-file") {
        None => i64::from(if options.contains_key("max-size") { 1 } else { MAX_FILE }),
        Some(text) => number(text)?,
    };
    if max_file < 1 {
        return Err("max-file cannot be less than 1".to_owned());
    }
    if let Some(text) = options.get("compress") {
        let compress = truth(text)?;
        if compress && (max_file < 2 || !options.contains_key("max-size")) {
            return Err(
                "compress cannot be true when max-file is less than 2 or max-size is not set".to_owned()
            );
        }
    }
    Ok((Some(max_size), u32::try_from(max_file).unwrap_or(u32::MAX)))
}

fn local_limits(options: &BTreeMap<String, String>) -> Limits {
    let max_size = match options.get("max-size") {
        None => MAX_SIZE,
        Some(text) => parse_size(text).map_err(|why| format!("invalid value for max-size: {text}: {why}"))?,
    };
    let max_file = match options.get("max-file") {
        None => i64::from(MAX_FILE),
        Some(text) => number(text).map_err(|why| format!("invalid value for max-file: {text}: {why}"))?,
    };
    if max_file < 0 {
        return Err("max file count cannot be less than 0".to_owned());
    }
    let compress = options.get("compress").map(|text| truth(text)).transpose();
    let compress =
        compress.map_err(|why| format!("error reading compress log option: {why}"))?.unwrap_or(true);
    if compress && max_file < 2 && options.contains_key("max-file") {
        return Err("compression cannot be enabled when max file count is 1".to_owned());
    }
    Ok((Some(max_size).filter(|size| *size != 0), u32::try_from(max_file.max(1)).unwrap_or(u32::MAX)))
}

/// A size such as `10m`, `1.5k` or `100`, in bytes; units are powers of 1000 with a decimal point as without, as in
/// Docker's `FromHumanSize`.
///
/// # Errors
/// `invalid size: '…'`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("invalid size: '{text}'");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic()).trim_end_matches(' ');
    let unit = text[digits.len()..].trim_start().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let unit = unit.strip_suffix('i').unwrap_or(unit);
    let factor: f64 = match unit {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        "p" => 1e15,
        _ => return Err(wrong()),
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = digits.parse().ok().filter(|_| plain).ok_or_else(wrong)?;
    let bytes = number * factor;
    if !bytes.is_finite() || bytes > 9e18 {
        return Err(wrong());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within 0..9e18, checked above"
    )]
    Ok(bytes as u64)
}

fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))
}

fn truth(text: &str) -> Result<bool, String> {
    boolean(text).ok_or_else(|| format!("strconv.ParseBool: parsing {text:?}: invalid syntax"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn tags_are_templates() {
        let refusal = |text: &str| tag(&BTreeMap::from([("tag".to_owned(), text.to_owned())])).err();
        assert_eq!(refusal("{{"), Some("template: log-tag:1: unclosed action".to_owned()));
        let unknown = "template: log-tag:1:2: executing \"log-tag\" at <.Foo>: can't evaluate field Foo in type *logger.Info";
        assert_eq!(refusal("{{.Foo}}").as_deref(), Some(unknown));
        assert_eq!(refusal("{{foo}}").as_deref(), Some("template: log-tag:1: function \"foo\" not defined"));
        for fine in ["plain", "", "{{.Name}}/{{ .ID }}", "{{.ImageName}}-{{.DaemonName}}"] {
            assert_eq!(refusal(fine), None, "{fine}");
        }
    }

    #[test]
    fn sizes_are_dockers() {
        for (text, bytes) in [
            ("10m", 10_000_000),
            ("1.5m", 1_500_000),
            ("1KB", 1000),
            ("7", 7),
            ("0", 0),
            ("1gib", 1_000_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["x", "", "-1", "10x", "m", "1e3m"] {
            assert_eq!(parse_size(text), Err(format!("invalid size: '{text}'")));
        }
    }

    #[test]
    fn json_file_refusals_are_the_recorded_ones() {
        let text = |pairs: &[(&str, &str)]| json_limits(&options(pairs)).unwrap_err();
        assert_eq!(
            text(&[("max-size", "10m"), ("max-file", "x")]),
            "strconv.Atoi: parsing \"x\": invalid syntax"
        );
        assert_eq!(text(&[("max-size", "10m"), ("max-file", "0")]), "max-file cannot be less than 1");
        assert_eq!(text(&[("max-size", "0")]), "max-size must be a positive number");
        let compress = "compress cannot be true when max-file is less than 2 or max-size is not set";
        assert_eq!(text(&[("compress", "true")]), compress);
        let truth = "strconv.ParseBool: parsing \"x\": invalid syntax";
        assert_eq!(text(&[("compress", "x"), ("max-size", "1m"), ("max-file", "2")]), truth);
        assert_eq!(json_limits(&options(&[])), Ok((Some(MAX_SIZE), MAX_FILE)));
        assert_eq!(json_limits(&options(&[("max-size", "1m")])), Ok((Some(1_000_000), 1)));
    }

    #[test]
    fn local_refusals_are_the_recorded_ones() {
        let text = |pairs: &[(&str, &str)]| local_limits(&options(pairs)).unwrap_err();
        assert_eq!(text(&[("max-size", "x")]), "invalid value for max-size: x: invalid size: 'x'");
        assert_eq!(
            text(&[("max-size", "1m"), ("max-file", "0")]),
            "compression cannot be enabled when max file count is 1"
        );
        assert_eq!(
            text(&[("max-file", "x")]),
            "invalid value for max-file: x: strconv.Atoi: parsing \"x\": invalid syntax"
        );
        assert_eq!(text(&[("max-file", "-1")]), "max file count cannot be less than 0");
        let compress = "error reading compress log option: strconv.ParseBool: parsing \"x\": invalid syntax";
        assert_eq!(text(&[("compress", "x")]), compress);
        assert_eq!(local_limits(&options(&[("max-size", "0")])), Ok((None, MAX_FILE)));
    }
}

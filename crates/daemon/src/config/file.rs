//! `daemon.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::options::{self, Kind, Opt};

/// Reads a configuration file; one that is missing is empty unless it was `asked` for.
pub(super) fn read(path: &Path, asked: bool) -> Result<BTreeMap<&'static str, Value>, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text).map_err(|error| fail(path, &error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !asked => Ok(BTreeMap::new()),
        Err(error) => Err(fail(path, &error.to_string())),
    }
}

fn fail(path: &Path, why: &str) -> String {
    format!("unable to configure the daemon with file {}: {why}", path.display())
}

/// The settings of a file by key. Unknown keys are refused by name, all at once.
fn parse(text: &str) -> Result<BTreeMap<&'static str, Value>, String> {
    if text.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    let document: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let unknown: Vec<&str> =
        document.keys().map(String::as_str).filter(|key| options::by_key(key).is_none()).collect();
    if !unknown.is_empty() {
        return Err(format!(
            "the following directives don't match any configuration option: {}",
            unknown.join(", ")
        ));
    }
    let mut settings = BTreeMap::new();
    for (key, value) in document {
        let Some(option) = options::by_key(&key) else { continue };
        if !fits(option, &value) {
            return Err(format!("{key}: {} expected", wanted(option.kind)));
        }
        settings.insert(option.key, value);
    }
    Ok(settings)
}

fn fits(option: &Opt, value: &Value) -> bool {
    match option.kind {
        Kind::Bool => value.is_boolean(),
        Kind::Text => value.is_string(),
        Kind::Number => value.is_i64(),
        Kind::List => value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
        Kind::Map => value.is_object(),
        Kind::Any => true,
    }
}

fn wanted(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "true or false",
        Kind::Text => "a string",
        Kind::Number => "a number",
        Kind::List => "a list of strings",
        Kind::Map => "an object",
        Kind::Any => "a value",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused_by_name() {
        assert_eq!(
            parse(r#"{"debug": true, "nope": 1, "zap": 2}"#).unwrap_err(),
            "the following directives don't match any configuration option: nope, zap"
        );
        assert_eq!(parse(r#"{"debug": "yes"}"#).unwrap_err(), "debug: true or false expected");
        assert_eq!(parse(r#"{"dns": "1.1.1.1"}"#).unwrap_err(), "dns: a list of strings expected");
        assert!(parse("{").is_err() && parse("").unwrap().is_empty());
    }

    #[test]
    fn a_missing_file_matters_only_when_it_was_asked_for() {
        let path = Path::new("/nonexistent/daemon.json");
        assert!(read(path, false).unwrap().is_empty());
        assert!(read(path, true).unwrap_err().contains("/nonexistent/daemon.json"));
    }
}

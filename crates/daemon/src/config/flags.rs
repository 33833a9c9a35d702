//! The daemon's command line.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::options::{self, Kind, OPTIONS, Opt};

/// A command line, read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Parsed {
    /// Flags by name; lists and maps gathered.
    Flags(BTreeMap<&'static str, Value>),
    /// `--help`.
    Help(String),
}

/// Reads flags: `--name value`, `--name=value`, `-n value`, `-nvalue`; truths need no value.
pub(super) fn parse(arguments: &[String]) -> Result<Parsed, String> {
    let mut flags = BTreeMap::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if matches!(argument.as_str(), "--help" | "-h") {
            return Ok(Parsed::Help(help()));
        }
        let (option, given) = split(argument)?;
        let value = match (given, option.kind) {
            (Some(value), _) => value,
            (None, Kind::Bool) => "true".to_owned(),
            (None, _) => rest.next().cloned().ok_or_else(|| format!("flag needs an argument: {argument}"))?,
        };
        add(&mut flags, option, &value)?;
    }
    Ok(Parsed::Flags(flags))
}

/// A flag's option and the value it carries itself.
fn split(argument: &str) -> Result<(&'static Opt, Option<String>), String> {
    if let Some(long) = argument.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        return options::by_flag(name)
            .map(|option| (option, value))
            .ok_or_else(|| format!("unknown flag: --{name}"));
    }
    let mut letters = argument.strip_prefix('-').unwrap_or_default().chars();
    let Some(letter) = letters.next() else {
        return Err(format!("\"wharf daemon\" accepts no arguments: {argument}"));
    };
    let option = options::by_letter(letter)
        .ok_or_else(|| format!("unknown shorthand flag: '{letter}' in {argument}"))?;
    let value = letters.as_str();
    let value = value.strip_prefix('=').unwrap_or(value);
    Ok((option, (!value.is_empty()).then(|| value.to_owned())))
}

fn add(flags: &mut BTreeMap<&'static str, Value>, option: &'static Opt, text: &str) -> Result<(), String> {
    let refuse = |why: &str| format!("invalid argument \"{text}\" for \"--{}\" flag: {why}", option.flag);
    let value = match option.kind {
        Kind::Text => json!(text),
        Kind::Bool => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => json!(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => json!(false),
            _ => return Err(refuse("not a truth")),
        },
        Kind::Number => json!(text.parse::<i64>().map_err(|_| refuse("not a number"))?),
        Kind::List | Kind::Any | Kind::Map => {
            if option.kind == Kind::Map && !text.contains('=') {
                return Err(refuse("name=value expected"));
            }
            if let Some(Value::Array(list)) = flags.get_mut(option.flag) {
                list.push(json!(text));
                return Ok(());
            }
            json!([text])
        }
    };
    flags.insert(option.flag, value);
    Ok(())
}

fn help() -> String {
    let mut text =
        "Usage:  wharf daemon [OPTIONS]\n\nA container engine that speaks the Docker API.\n\nOptions:\n"
            .to_owned();
    let mut options: Vec<&Opt> = OPTIONS.iter().filter(|option| !option.flag.is_empty()).collect();
    options.sort_by_key(|option| option.flag);
    for option in options {
        let letter = option.short.map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
        let kind = match option.kind {
            Kind::Bool => "",
            Kind::Text => " string",
            Kind::Number => " int",
            Kind::List | Kind::Any => " list",
            Kind::Map => " map",
        };
        text.push_str(&format!("  {letter}--{:<34} {}\n", format!("{}{kind}", option.flag), option.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(arguments: &[&str]) -> Result<BTreeMap<&'static str, Value>, String> {
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        match parse(&arguments)? {
            Parsed::Flags(flags) => Ok(flags),
            Parsed::Help(_) => panic!("help"),
        }
    }

    #[test]
    fn all_forms_are_read() {
        let read =
            flags(&["-H", "unix:///a", "--host=fd://", "-D", "--init=false", "--log-opt", "a=b", "-lwarn"])
                .unwrap();
        assert_eq!(read["host"], json!(["unix:///a", "fd://"]));
        assert_eq!(
            (&read["debug"], &read["init"], &read["log-level"]),
            (&json!(true), &json!(false), &json!("warn"))
        );
        assert_eq!(read["log-opt"], json!(["a=b"]));
    }

    #[test]
    fn what_is_not_known_is_named() {
        assert_eq!(flags(&["--nope"]).unwrap_err(), "unknown flag: --nope");
        assert_eq!(flags(&["--data-root"]).unwrap_err(), "flag needs an argument: --data-root");
        assert_eq!(flags(&["-z"]).unwrap_err(), "unknown shorthand flag: 'z' in -z");
        assert!(flags(&["word"]).unwrap_err().contains("accepts no arguments"));
        assert!(flags(&["--mtu", "x"]).unwrap_err().contains("invalid argument \"x\" for \"--mtu\""));
    }
}

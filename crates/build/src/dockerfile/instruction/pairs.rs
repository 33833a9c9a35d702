//! `ENV`, `LABEL` and `ARG`: names and values.

use super::super::error::Refusal;
use crate::words::{self, Quotes};

/// A name and a value, quotes and variables still in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The name.
    pub name: String,
    /// The value as written.
    pub value: String,
    /// Whether it was written `NAME value`, without an equals sign.
    pub legacy: bool,
}

/// A build argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// The name.
    pub name: String,
    /// Its default as written; `None`: it has none.
    pub default: Option<String>,
}

pub(super) fn pairs(name: &str, text: &str, escape: char) -> Result<Vec<Pair>, Refusal> {
    let words = words::split(text, escape, Quotes::Keep);
    let Some(first) = words.first() else {
        return Err(format!("{name} requires at least one argument").into());
    };
    if !first.contains('=') {
        let Some((key, value)) = text.split_once(char::is_whitespace) else {
            return Err(Refusal::Text(format!("{name} must have two arguments")));
        };
        return Ok(vec![Pair { name: key.to_owned(), value: value.trim_start().to_owned(), legacy: true }]);
    }
    let pair = |word: &String| {
        let Some((key, value)) = word.split_once('=') else {
            let why = format!("Syntax error - can't find = in \"{word}\". Must be of the form: name=value");
            return Err(Refusal::Text(why));
        };
        if key.is_empty() {
            return Err(format!("{name} names can not be blank").into());
        }
        Ok(Pair { name: key.to_owned(), value: value.to_owned(), legacy: false })
    };
    words.iter().map(pair).collect()
}

pub(super) fn arguments(text: &str, escape: char) -> Result<Vec<Argument>, String> {
    let words = words::split(text, escape, Quotes::Keep);
    if words.is_empty() {
        return Err("ARG requires at least one argument".to_owned());
    }
    let argument = |word: &String| match word.split_once('=') {
        Some(("", _)) => Err("ARG names can not be blank".to_owned()),
        Some((name, default)) => Ok(Argument { name: name.to_owned(), default: Some(default.to_owned()) }),
        None => Ok(Argument { name: word.clone(), default: None }),
    };
    words.iter().map(argument).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_pairs() {
        let found = pairs("ENV", "a=1 b=\"x y\" c=d\\ e", '\\').unwrap();
        let shown: Vec<_> = found.iter().map(|pair| (pair.name.as_str(), pair.value.as_str())).collect();
        assert_eq!(shown, [("a", "1"), ("b", "\"x y\""), ("c", "d\\ e")]);
        let legacy = &pairs("ENV", "path  /a b=c", '\\').unwrap()[0];
        assert_eq!((legacy.name.as_str(), legacy.value.as_str(), legacy.legacy), ("path", "/a b=c", true));
    }

    #[test]
    fn wrong_pairs_are_refused() {
        assert_eq!(pairs("ENV", "", '\\').unwrap_err().message(), "ENV requires at least one argument");
        assert_eq!(pairs("LABEL", "x", '\\').unwrap_err().message(), "LABEL must have two arguments");
        assert_eq!(pairs("ENV", "=x", '\\').unwrap_err().message(), "ENV names can not be blank");
        let missing = "Syntax error - can't find = in \"b\". Must be of the form: name=value";
        assert_eq!(pairs("ENV", "a=1 b", '\\').unwrap_err().message(), missing);
        assert_eq!(arguments("a=1 b", '\\').unwrap().len(), 2);
    }
}

//! `FROM [--platform=P] BASE [AS NAME]`.

use super::super::flag;

/// A parsed `FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct From {
    pub(in super::super) base: String,
    /// As written.
    pub(in super::super) name: Option<String>,
    pub(in super::super) platform: Option<String>,
    /// The words `FROM` and `AS` as written.
    pub(in super::super) keywords: (String, Option<String>),
}

/// Reads a `FROM`.
pub(in super::super) fn parse_from(line: &str) -> Result<From, String> {
    let (keyword, rest) = super::first_word(line);
    let (mut flags, rest) = flag::extract(rest);
    let platform = flags.string("platform")?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (base, name) = match words.as_slice() {
        [base] => (*base, None),
        [base, as_word, name] if as_word.eq_ignore_ascii_case("as") => (*base, Some((*as_word, *name))),
        _ => return Err("FROM requires either one or three arguments".to_owned()),
    };
    flags.end()?;
    if let Some((_, name)) = name {
        check_name(name)?;
    }
    let keywords = (keyword.to_owned(), name.map(|(word, _)| word.to_owned()));
    Ok(From { base: base.to_owned(), name: name.map(|(_, name)| name.to_owned()), platform, keywords })
}

fn check_name(name: &str) -> Result<(), String> {
    let lower = name.to_ascii_lowercase();
    let good = lower.starts_with(|first: char| first.is_ascii_lowercase())
        && lower.chars().all(|part| {
            part.is_ascii_lowercase() || part.is_ascii_digit() || matches!(part, '-' | '_' | '.')
        });
    if good {
        return Ok(());
    }
    Err(format!(
        "invalid name for build stage: \"{name}\", name can't start with a number or contain symbols"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms() {
        let from = parse_from("FROM --platform=$BUILDPLATFORM debian:13 as Build").unwrap();
        assert_eq!((from.base.as_str(), from.name.as_deref()), ("debian:13", Some("Build")));
        assert_eq!(from.platform.as_deref(), Some("$BUILDPLATFORM"));
        assert!(parse_from("FROM a b c").is_err() && parse_from("FROM").is_err());
        assert!(parse_from("FROM a AS b$").is_err() && parse_from("FROM --platfrom=x a").is_err());
    }
}

//! Commands: a JSON array is executed as it is, anything else by the shell.

use super::super::error::Refusal;

/// What `RUN`, `CMD` and `ENTRYPOINT` are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A line for the stage's shell.
    Shell(String),
    /// A program and its arguments.
    Exec(Vec<String>),
}

impl Command {
    /// Reads either form.
    ///
    /// # Errors
    /// A JSON array of other things than strings.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        Ok(match json(text).transpose().map_err(Refusal::Text)? {
            Some(words) => Self::Exec(words),
            None => Self::Shell(text.to_owned()),
        })
    }
}

/// `text` as a JSON array of strings; `None` where it is no array at all.
pub(super) fn json(text: &str) -> Option<Result<Vec<String>, String>> {
    let values = serde_json::from_str::<Vec<serde_json::Value>>(text.trim()).ok()?;
    let words = values.into_iter().map(|value| match value {
        serde_json::Value::String(word) => Ok(word),
        _ => Err("when using JSON array syntax, arrays must be comprised of strings only".to_owned()),
    });
    Some(words.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        assert_eq!(
            Command::parse("[\"a\", \"b c\"]").unwrap(),
            Command::Exec(vec!["a".to_owned(), "b c".to_owned()])
        );
        assert_eq!(Command::parse("['a']").unwrap(), Command::Shell("['a']".to_owned()));
        assert_eq!(Command::parse("[ -f x ]").unwrap(), Command::Shell("[ -f x ]".to_owned()));
        assert!(Command::parse("[1]").is_err());
    }
}

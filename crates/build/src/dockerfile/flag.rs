//! The flags of an instruction: `--name=value` words before its arguments.

use super::error::suggest;

/// The flags given to one instruction; each is taken by name, what is left at the end is unknown.
#[derive(Debug, Default)]
pub(super) struct Flags {
    /// Name without dashes, and the value where there is one.
    given: Vec<(String, Option<String>)>,
    known: Vec<&'static str>,
}

/// Splits `text` into its flags and the rest. A lone `--` ends the flags.
pub(super) fn extract(text: &str) -> (Flags, &str) {
    let mut flags = Flags::default();
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        let (word, behind) = word(rest);
        rest = behind.trim_start();
        let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty()) else { break };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (flag.to_owned(), None),
        };
        flags.given.push((name, value));
    }
    (flags, rest)
}

/// The first word, quotes and backslashes resolved, and what is behind it.
fn word(text: &str) -> (String, &str) {
    let mut word = String::new();
    let mut quote = None;
    let mut rest = text.char_indices();
    while let Some((at, next)) = rest.next() {
        match quote {
            None if next.is_whitespace() => return (word, &text[at..]),
            None if next == '\'' || next == '"' => quote = Some(next),
            Some(open) if next == open => quote = None,
            _ if next == '\\' => word.extend(rest.next().map(|(_, escaped)| escaped)),
            _ => word.push(next),
        }
    }
    (word, "")
}

impl Flags {
    /// Whether none was given.
    pub(super) fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// The value of a flag that may be given once.
    pub(super) fn string(&mut self, name: &'static str) -> Result<Option<String>, String> {
        let mut values = self.list(name)?;
        if values.len() > 1 {
            return Err(format!("duplicate flag specified: {name}"));
        }
        Ok(values.pop())
    }

    /// The values of a flag that may be given often.
    pub(super) fn list(&mut self, name: &'static str) -> Result<Vec<String>, String> {
        self.known.push(name);
        let mut values = Vec::new();
        let mut missing = false;
        self.given.retain(|(given, value)| {
            if given != name {
                return true;
            }
            match value {
                Some(value) => values.push(value.clone()),
                None => missing = true,
            }
            false
        });
        if missing { Err(format!("missing a value on flag: --{name}")) } else { Ok(values) }
    }

    /// A flag that is on by being there; `--name=false` turns it off.
    pub(super) fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, String> {
        for (given, value) in &mut self.given {
            if given == name && value.is_none() {
                *value = Some("true".to_owned());
            }
        }
        let Some(value) = self.string(name)? else { return Ok(None) };
        match value.to_ascii_lowercase().as_str() {
            "" | "true" => Ok(Some(true)),
            "false" => Ok(Some(false)),
            _ => Err(format!("expecting boolean value for flag {name}, not: {value}")),
        }
    }

    /// Refuses what was not taken.
    pub(super) fn end(self) -> Result<(), String> {
        match self.given.first() {
            None => Ok(()),
            Some((name, _)) => Err(suggest(format!("unknown flag: --{name}"), name, self.known)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_end_at_the_first_other_word() {
        let (mut flags, rest) = extract("--from=a --link --exclude='x y' --exclude=z src --dst");
        assert_eq!(rest, "src --dst");
        assert_eq!(flags.string("from").unwrap().as_deref(), Some("a"));
        assert_eq!(flags.boolean("link").unwrap(), Some(true));
        assert_eq!(flags.list("exclude").unwrap(), ["x y", "z"]);
        assert!(flags.end().is_ok());
    }

    #[test]
    fn wrong_flags_are_refused() {
        let (mut flags, _) = extract("--form=a x");
        assert_eq!(flags.string("from").unwrap(), None);
        assert_eq!(flags.end().unwrap_err(), "unknown flag: --form (did you mean from?)");
        assert_eq!(extract("--from x").0.string("from").unwrap_err(), "missing a value on flag: --from");
        assert_eq!(extract("--a=1 --a=2 x").0.string("a").unwrap_err(), "duplicate flag specified: a");
        let wrong = extract("--link=maybe x").0.boolean("link").unwrap_err();
        assert_eq!(wrong, "expecting boolean value for flag link, not: maybe");
    }
}

//! `$name` and `${name…}` with the modifiers of a POSIX shell, and two of bash.

use super::pattern;
use super::scan::Scan;

const NO_BRACE: &str = "syntax error: missing '}'";

impl Scan<'_> {
    /// What a `$`, already read, stands for together with what follows.
    pub(super) fn variable(&mut self) -> Result<String, String> {
        if self.rest.next_if_eq(&'{').is_some() {
            return self.braced();
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok(self.plain(&name))
    }

    fn plain(&mut self, name: &str) -> String {
        self.value(name).unwrap_or_else(|| {
            self.missed(name);
            String::new()
        })
    }

    /// The name of a variable: letters, digits and underscores; or digits; or one special sign.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.rest.peek() {
            Some(first) if first.is_numeric() => {
                while let Some(digit) = self.rest.next_if(|next| next.is_numeric()) {
                    name.push(digit);
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => name.extend(self.rest.next()),
            _ => {
                while let Some(part) = self.rest.next_if(|next| next.is_alphanumeric() || *next == '_') {
                    name.push(part);
                }
            }
        }
        name
    }

    fn braced(&mut self) -> Result<String, String> {
        match self.rest.peek() {
            None => return Err(NO_BRACE.to_owned()),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".to_owned()),
            Some(_) => {}
        }
        let name = self.name();
        let unsupported = |sign: &str| Err(format!("unsupported modifier ({sign}) in substitution"));
        match self.rest.next() {
            None => Err(NO_BRACE.to_owned()),
            Some('}') => Ok(self.plain(&name)),
            Some(':') => match self.rest.next() {
                Some(sign @ ('-' | '+' | '?')) => self.conditional(&name, sign, true),
                Some(sign) => unsupported(&format!(":{sign}")),
                None => Err(NO_BRACE.to_owned()),
            },
            Some(sign @ ('-' | '+' | '?')) => self.conditional(&name, sign, false),
            Some(sign @ ('#' | '%')) => self.trimmed(&name, sign),
            Some('/') => self.replaced(&name),
            Some(sign) => unsupported(&sign.to_string()),
        }
    }

    /// `${name-word}`, `${name+word}`, `${name?word}`; with a colon an empty value counts as none.
    fn conditional(&mut self, name: &str, sign: char, empty_is_unset: bool) -> Result<String, String> {
        let word = self.until('}', false)?.ok_or(NO_BRACE)?;
        let found = self.value(name);
        let set = found.clone().filter(|value| !(empty_is_unset && value.is_empty()));
        match (sign, set) {
            ('-', set) => Ok(set.unwrap_or(word)),
            ('+', set) => Ok(set.map_or_else(String::new, |_| word)),
            (_, Some(value)) => Ok(value),
            (_, None) => {
                let why =
                    if found.is_some() { "is not allowed to be empty" } else { "is not allowed to be unset" };
                Err(format!("{name}: {}", if word.is_empty() { why } else { &word }))
            }
        }
    }

    /// `${name#pattern}` and `${name%pattern}`, doubled for the longest match.
    fn trimmed(&mut self, name: &str, sign: char) -> Result<String, String> {
        let longest = self.rest.next_if_eq(&sign).is_some();
        let pattern = self.until('}', true)?.ok_or(NO_BRACE)?;
        let value = self.plain(name);
        if sign == '#' {
            pattern::without_prefix(&value, &pattern, longest)
        } else {
            pattern::without_suffix(&value, &pattern, longest)
        }
    }

    /// `${name/pattern/text}`, with `//` for every match.
    fn replaced(&mut self, name: &str) -> Result<String, String> {
        let all = self.rest.next_if_eq(&'/').is_some();
        let pattern = self.until('/', true)?.ok_or("syntax error: missing '/' in ${")?;
        let replacement = self.until('}', true)?.ok_or(NO_BRACE)?;
        let value = self.plain(name);
        pattern::replace(&value, &pattern, &replacement, all)
    }
}

//! Parser directives: `# key=value` comments at the very top of a Dockerfile.

use super::error::{Lines, ParseError};

/// What the directives of a Dockerfile say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// The frontend image (`# syntax=`), and where it was said.
    pub syntax: Option<(String, Lines)>,
    /// The character that escapes and continues lines: a backslash or a backtick.
    pub escape: char,
    /// What `# check=` says, unparsed: `skip=a,b;error=true;experimental=all`.
    pub check: Option<String>,
}

impl Default for Directives {
    fn default() -> Self {
        Self { syntax: None, escape: '\\', check: None }
    }
}

impl Directives {
    /// Reads the directives of `text`. The first line that is no known directive ends them; a `#!` line may come first.
    ///
    /// # Errors
    /// A directive given twice, or an escape that is none.
    pub fn read(text: &str) -> Result<Self, ParseError> {
        let mut found = Self::default();
        let mut escape_said = false;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in marked(text) {
            let Some((key, value)) = directive(line, "#") else { break };
            let lines = Lines::one(number);
            let twice = || ParseError::at(lines, format!("only one {key} parser directive can be used"));
            match key.as_str() {
                "syntax" if found.syntax.is_some() => return Err(twice()),
                "syntax" => found.syntax = Some((value.to_owned(), lines)),
                "check" if found.check.is_some() => return Err(twice()),
                "check" => found.check = Some(value.to_owned()),
                "escape" if escape_said => return Err(twice()),
                "escape" => {
                    found.escape = match value {
                        "\\" => '\\',
                        "`" => '`',
                        other => {
                            let why = format!("invalid escape token '{other}' does not match ` or \\");
                            return Err(ParseError::at(lines, why));
                        }
                    };
                    escape_said = true;
                }
                _ => break,
            }
        }
        if found.syntax.is_none() {
            found.syntax = foreign_syntax(text);
        }
        Ok(found)
    }

    /// Whether the built-in frontend is meant: no `syntax`, or any `docker/dockerfile` image.
    #[must_use]
    pub fn is_built_in(&self) -> bool {
        let Some((syntax, _)) = &self.syntax else { return true };
        let image = syntax.split_whitespace().next().unwrap_or_default();
        let familiar = image.strip_prefix("docker.io/").unwrap_or(image);
        let repository = familiar.split(['@', ':']).next().unwrap_or_default();
        repository.starts_with("docker/dockerfile")
    }
}

/// The lines that directives may stand in: a `#!` line comes before them.
fn marked(text: &str) -> impl Iterator<Item = (u32, &str)> {
    (1u32..).zip(text.lines()).skip_while(|(number, line)| *number == 1 && line.starts_with("#!"))
}

/// The frontend image of a file in another language, whose comments begin with `//`, or which is a JSON object.
fn foreign_syntax(text: &str) -> Option<(String, Lines)> {
    #[derive(serde::Deserialize)]
    struct Object {
        syntax: String,
    }
    let lines = marked(text).map_while(|(number, line)| Some((number, directive(line, "//")?)));
    let mut said = lines.filter(|(_, (key, _))| key == "syntax");
    if let Some((number, (_, image))) = said.next() {
        return Some((image.to_owned(), Lines::one(number)));
    }
    let object = text.trim_start().starts_with('{').then(|| serde_json::from_str::<Object>(text).ok());
    let image = object.flatten().map(|object| object.syntax).filter(|image| !image.is_empty());
    image.map(|image| (image, Lines::one(1)))
}

/// `# key = value`, the key in lower case.
fn directive<'a>(line: &'a str, mark: &str) -> Option<(String, &'a str)> {
    let (key, value) = line.strip_prefix(mark)?.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let named = key.starts_with(|first: char| first.is_ascii_alphabetic())
        && key.chars().all(|part| part.is_ascii_alphanumeric());
    (named && !value.is_empty()).then(|| (key.to_ascii_lowercase(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_end_at_the_first_other_line() {
        let found =
            Directives::read("# syntax=docker/dockerfile:1\n# escape=`\n\n# check=skip=all\n").unwrap();
        assert_eq!(found.syntax.as_ref().unwrap().0, "docker/dockerfile:1");
        assert_eq!((found.escape, found.check.as_deref()), ('`', None));
        assert!(found.is_built_in());
    }

    #[test]
    fn wrong_ones_are_refused() {
        let escape = Directives::read("#escape=x\n").unwrap_err();
        assert_eq!(escape.message, "invalid escape token 'x' does not match ` or \\");
        let twice = Directives::read("#syntax=a\n#Syntax=b\n").unwrap_err();
        assert_eq!(twice.to_string(), "only one syntax parser directive can be used");
    }

    #[test]
    fn foreign_frontends_are_not_built_in() {
        assert!(!Directives::read("# syntax=example.com/front:1\n").unwrap().is_built_in());
        assert!(
            Directives::read("# syntax=docker.io/docker/dockerfile-upstream:master\n").unwrap().is_built_in()
        );
        assert!(Directives::read("#!/usr/bin/env builder\n# syntax=x/y\n").unwrap().syntax.is_some());
    }

    #[test]
    fn other_languages_name_their_frontend_too() {
        let syntax = |text: &str| Directives::read(text).unwrap().syntax.map(|(image, _)| image);
        assert_eq!(syntax("// syntax = x/y\npackage main\n").as_deref(), Some("x/y"));
        assert_eq!(syntax("#!/bin/x\n// a=b\n// syntax=x/y\n").as_deref(), Some("x/y"));
        assert_eq!(syntax("{ \"syntax\": \"x/y\", \"steps\": [] }").as_deref(), Some("x/y"));
        assert_eq!((syntax("FROM x\n// syntax=x/y\n"), syntax("{ \"steps\": [] }")), (None, None));
    }
}

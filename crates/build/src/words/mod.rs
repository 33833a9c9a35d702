//! The words of a Dockerfile: quotes, escapes, and variables with their modifiers.
//!
//! A small shell: `'…'` keeps everything, `"…"` keeps blanks and expands variables, the escape character takes the next
//! character as it is. [`expand`] gives one word, [`expand_words`] as many as there are after expansion.

mod pattern;
mod scan;
mod substitution;

use std::collections::BTreeSet;

use scan::Scan;

/// What becomes of quotes and escapes when words are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quotes {
    /// They stay in the word, for a later expansion.
    Keep,
    /// They are taken away.
    Remove,
}

/// Looks up the value of a variable; `None` when it is not set.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a word could not be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process \"{word}\": {message}")]
pub struct ExpandError {
    /// The whole word.
    pub word: String,
    /// What is wrong with it.
    pub message: String,
}

/// How words are read.
#[derive(Debug, Clone, Copy)]
pub struct Lexer {
    /// The escape character.
    pub escape: char,
    /// Whether quotes are characters like others, as in the text of a here-document.
    pub literal_quotes: bool,
}

/// A word after expansion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The word.
    pub word: String,
    /// The words it falls into at blanks that no quotes protect.
    pub words: Vec<String>,
    /// Variables that were used but are not set, and have no default.
    pub unset: BTreeSet<String>,
}

impl Lexer {
    /// Words with quotes, the usual case.
    #[must_use]
    pub const fn new(escape: char) -> Self {
        Self { escape, literal_quotes: false }
    }

    /// Expands variables, quotes and escapes of `word`.
    ///
    /// # Errors
    /// An unclosed quote or brace, a wrong modifier, or `${x?message}` of a variable that is not set.
    pub fn expand(&self, word: &str, lookup: Lookup<'_>) -> Result<Expanded, ExpandError> {
        let mut scan = Scan::new(word, *self, lookup);
        match scan.read_all() {
            Ok((text, words)) => Ok(Expanded { word: text, words, unset: scan.into_unset() }),
            Err(message) => Err(ExpandError { word: word.to_owned(), message }),
        }
    }
}

/// Splits `text` at blanks outside quotes, without expanding anything. An open quote runs to the end.
#[must_use]
pub fn split(text: &str, escape: char, quotes: Quotes) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut begun = false;
    let mut quote = None;
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        let marks = match quote {
            None if next.is_whitespace() => {
                if begun {
                    words.push(std::mem::take(&mut word));
                    begun = false;
                }
                continue;
            }
            None if next == '\'' || next == '"' => {
                quote = Some(next);
                true
            }
            Some(open) if next == open => {
                quote = None;
                true
            }
            // Nothing is escaped within single quotes.
            None | Some('"') if next == escape => {
                if quotes == Quotes::Keep {
                    word.push(next);
                }
                word.extend(rest.next());
                begun = true;
                continue;
            }
            _ => false,
        };
        begun = true;
        if !marks || quotes == Quotes::Keep {
            word.push(next);
        }
    }
    if begun {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(word: &str) -> Result<String, String> {
        let lookup = |name: &str| match name {
            "x" => Some("value".to_owned()),
            "empty" => Some(String::new()),
            "path" => Some("/usr/local/lib.tar.gz".to_owned()),
            "many" => Some("a b  c".to_owned()),
            _ => None,
        };
        let expanded = Lexer::new('\\').expand(word, &lookup);
        expanded.map(|done| done.word).map_err(|error| error.message)
    }

    #[test]
    fn quotes_and_escapes() {
        let cases = [
            ("a'$x'b", "a$xb"),
            ("\"$x\"", "value"),
            ("\\$x", "$x"),
            ("\"\\a\\\"\"", "\\a\""),
            ("$", "$"),
            ("$ x", "$ x"),
            ("'a b' c", "a b c"),
            ("$x$x", "valuevalue"),
            ("$xy", ""),
            ("${x}y", "valuey"),
            ("$1", ""),
            ("a\\", "a"),
        ];
        for (word, expected) in cases {
            assert_eq!(expand(word).unwrap(), expected, "{word}");
        }
    }

    #[test]
    fn modifiers() {
        let cases = [
            ("${no:-d}", "d"),
            ("${empty:-d}", "d"),
            ("${empty-d}", ""),
            ("${no-$x}", "value"),
            ("${x:+y}", "y"),
            ("${no+y}", ""),
            ("${empty+y}", "y"),
            ("${empty:+y}", ""),
            ("${path##*/}", "lib.tar.gz"),
            ("${path#*/}", "usr/local/lib.tar.gz"),
            ("${path%.*}", "/usr/local/lib.tar"),
            ("${path%%.*}", "/usr/local/lib"),
            ("${path/l/L}", "/usr/Local/lib.tar.gz"),
            ("${path//l/L}", "/usr/LocaL/Lib.tar.gz"),
            ("${x//\\//_}", "value"),
            ("${x:?gone}", "value"),
            ("${no:-${x:-y}}", "value"),
        ];
        for (word, expected) in cases {
            assert_eq!(expand(word).unwrap(), expected, "{word}");
        }
    }

    #[test]
    fn wrong_words_are_refused() {
        let cases = [
            ("${x", "syntax error: missing '}'"),
            ("${", "syntax error: missing '}'"),
            ("${}", "syntax error: bad substitution"),
            ("${no?}", "no: is not allowed to be unset"),
            ("${no:?my word}", "no: my word"),
            ("${empty:?}", "empty: is not allowed to be empty"),
            ("${x:*y}", "unsupported modifier (:*) in substitution"),
            ("${x^}", "unsupported modifier (^) in substitution"),
            ("'a", "unexpected end of statement while looking for matching single-quote"),
            ("\"a", "unexpected end of statement while looking for matching double-quote"),
        ];
        for (word, expected) in cases {
            assert_eq!(expand(word).unwrap_err(), expected, "{word}");
        }
    }

    #[test]
    fn expansion_makes_words() {
        let lookup = |name: &str| (name == "many").then(|| "a b  c".to_owned());
        let lexer = Lexer::new('\\');
        assert_eq!(
            lexer.expand("$many \"$many\" 'd e'", &lookup).unwrap().words,
            ["a", "b", "c", "a b  c", "d e"]
        );
        assert_eq!(lexer.expand("x$many\"y z\"", &lookup).unwrap().words, ["xa", "b", "cy z"]);
        let unset = lexer.expand("$a ${b:-c} ${d}", &lookup).unwrap().unset;
        assert_eq!(unset.into_iter().collect::<Vec<_>>(), ["a", "d"]);
    }

    #[test]
    fn splitting_keeps_or_removes_quotes() {
        assert_eq!(split("a=\"b c\" d\\ e 'f'", '\\', Quotes::Keep), ["a=\"b c\"", "d\\ e", "'f'"]);
        assert_eq!(split("a=\"b c\" d\\ e ''", '\\', Quotes::Remove), ["a=b c", "d e", ""]);
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(word in "[$\\{\\}:?#%/+*'\" \\\\a-z-]{0,40}") {
            let _ = expand(&word);
            let _ = split(&word, '\\', Quotes::Remove);
        }

        #[test]
        fn plain_words_are_themselves(word in "[a-z0-9./:=-]{1,20}") {
            proptest::prop_assert_eq!(expand(&word).unwrap(), word);
        }
    }
}

//! Here-documents: `<<NAME`, `<<-NAME`, `3<<'NAME'`.

use crate::words::{self, Quotes};

/// A here-document of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it; for `COPY` also the file's name.
    pub name: String,
    /// The descriptor it is for; 0 where none was said.
    pub descriptor: u32,
    /// Whether variables in it are expanded: its name was not quoted.
    pub expand: bool,
    /// Whether leading tabs are dropped (`<<-`).
    pub chomp: bool,
    /// Its lines as they stand in the file.
    pub content: String,
}

impl Heredoc {
    /// Its lines, without leading tabs where those are dropped.
    #[must_use]
    pub fn text(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// The here-documents that a line opens, empty yet.
pub(super) fn opened(line: &str, escape: char) -> Vec<Heredoc> {
    words::split(line, escape, Quotes::Keep).iter().filter_map(|word| parse(word, escape)).collect()
}

/// Reads one word as the opening of a here-document.
#[must_use]
pub(super) fn parse(word: &str, escape: char) -> Option<Heredoc> {
    let digits = word.len() - word.trim_start_matches(|part: char| part.is_ascii_digit()).len();
    let (number, rest) = word.split_at(digits);
    let rest = rest.strip_prefix("<<")?;
    let descriptor = if number.is_empty() { 0 } else { number.parse().ok()? };
    let (chomp, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let quoted = rest.contains(['\'', '"', escape]);
    let mut names = words::split(rest, escape, Quotes::Remove);
    let name = names.pop().filter(|name| names.is_empty() && !name.is_empty())?;
    Some(Heredoc { name, descriptor, expand: !quoted, chomp, content: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_are_told_from_other_words() {
        let found = parse("3<<-'EOF'", '\\').unwrap();
        assert_eq!(
            (found.name.as_str(), found.descriptor, found.expand, found.chomp),
            ("EOF", 3, false, true)
        );
        assert!(parse("<<<x", '\\').is_none());
        assert!(parse("<<", '\\').is_none());
        assert!(parse("a<<b", '\\').is_none());
        assert!(parse("<<\"a b\"", '\\').is_some_and(|heredoc| heredoc.name == "a b"));
    }

    #[test]
    fn a_quoted_opening_opens_nothing() {
        assert!(opened("RUN echo '<<EOF'", '\\').is_empty());
        assert_eq!(opened("COPY <<a.txt <<b.txt /x/", '\\').len(), 2);
    }
}

//! Instructions without a `FROM`, as `docker commit --change` takes them.

use super::error::ParseError;
use super::instruction::{self, Instruction};
use super::line::Reader;
use super::stage::Located;

/// Those that change nothing but a config.
const KNOWN: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads instructions that change a config.
///
/// # Errors
/// The first that is wrong, or does more than that.
pub fn changes_of(text: &str) -> Result<Vec<Located<Instruction>>, ParseError> {
    let escape = '\\';
    let mut reader = Reader::new(text, escape);
    let mut changes = Vec::new();
    while let Some(line) = reader.next()? {
        let word = line.text.split_whitespace().next().unwrap_or_default().to_uppercase();
        if !KNOWN.contains(&word.as_str()) {
            return Err(ParseError::at(line.lines, format!("{word} is not a valid change command")));
        }
        let item = instruction::parse(&line.text, Vec::new(), escape);
        let item = item.map_err(|refusal| refusal.at(line.lines))?;
        changes.push(Located { item, lines: line.lines, text: line.text, comments: line.comments });
    }
    Ok(changes)
}

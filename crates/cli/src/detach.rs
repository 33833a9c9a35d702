//! The key sequence that leaves a container running: looked for here, in what is typed, as Docker's client does.

use crate::error::CliError;

/// Looks for the sequence in a stream of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    sequence: Vec<u8>,
    /// How many of them were typed last.
    matched: usize,
}

impl Keys {
    /// `ctrl-p,ctrl-q`, which is also what nothing means: keys between commas, `ctrl-` before a letter or one of
    /// `@[\]^_`.
    ///
    /// # Errors
    /// When a key is none.
    pub(crate) fn parse(text: &str) -> Result<Self, CliError> {
        let text = if text.is_empty() { "ctrl-p,ctrl-q" } else { text };
        let key = |word: &str| match (word.as_bytes(), word.strip_prefix("ctrl-").map(str::as_bytes)) {
            ([key], _) => Some(*key),
            (_, Some([key])) if key.is_ascii_lowercase() => Some(key - b'a' + 1),
            (_, Some(b"@")) => Some(0),
            (_, Some([key])) if (b'['..=b'_').contains(key) => Some(key - b'[' + 27),
            _ => None,
        };
        let sequence: Option<Vec<u8>> = text.split(',').map(key).collect();
        let sequence =
            sequence.ok_or_else(|| CliError::new(format!("invalid detach keys ({text}) provided")))?;
        Ok(Self { sequence, matched: 0 })
    }

    /// What of `typed` is to be sent, and whether the sequence is complete. Keys that may be its beginning are held
    /// back until the next one tells.
    pub(crate) fn feed(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut send = Vec::with_capacity(typed.len());
        for key in typed {
            if self.sequence[self.matched] == *key {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    return (send, true);
                }
                continue;
            }
            send.extend_from_slice(&self.sequence[..self.matched]);
            self.matched = usize::from(self.sequence[0] == *key);
            if self.matched == 0 {
                send.push(*key);
            }
        }
        (send, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_found_across_reads() {
        let mut keys = Keys::parse("").unwrap();
        assert_eq!(keys.feed(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(keys.feed(b"c"), (b"\x10c".to_vec(), false));
        assert_eq!(keys.feed(b"\x10\x10\x11d"), (b"\x10".to_vec(), true));
    }

    #[test]
    fn sequences_are_parsed_as_docker_does() {
        assert_eq!(Keys::parse("ctrl-a,b").unwrap().sequence, [1, b'b']);
        assert_eq!(Keys::parse("ctrl-@,ctrl-[,ctrl-_").unwrap().sequence, [0, 27, 31]);
        assert!(Keys::parse("ctrl-").is_err());
        assert!(Keys::parse("wrong,a").is_err());
    }
}

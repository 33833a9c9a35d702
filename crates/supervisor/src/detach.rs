//! Recognises the keys that end an attachment to a terminal.

/// Follows a client's input; keys are held back while they may be the start of the sequence.
#[derive(Debug)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

impl DetachKeys {
    /// `keys` empty: there is no such sequence.
    pub(crate) fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Appends to `out` what the process shall get of `input`; `true` once the sequence was typed, after
    /// which the rest of the input is dropped. As in Docker, a key that breaks the sequence is passed on
    /// after those held back, and does not start a new one.
    pub(crate) fn filter(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            out.extend_from_slice(input);
            return false;
        }
        for &byte in input {
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return true;
                }
            } else {
                out.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
                out.push(byte);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(keys: &[u8], inputs: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut detach = DetachKeys::new(keys.to_vec());
        let mut out = Vec::new();
        let typed = inputs.iter().any(|input| detach.filter(input, &mut out));
        (out, typed)
    }

    #[test]
    fn the_sequence_ends_the_attachment_however_it_is_cut() {
        assert_eq!(run(b"\x10\x11", &[b"ls\n\x10\x11rest"]), (b"ls\n".to_vec(), true));
        assert_eq!(run(b"\x10\x11", &[b"ls\n\x10", b"\x11"]), (b"ls\n".to_vec(), true));
        assert_eq!(run(b"q", &[b"abq"]), (b"ab".to_vec(), true));
    }

    #[test]
    fn a_broken_sequence_reaches_the_process() {
        assert_eq!(run(b"\x10\x11", &[b"\x10a\x10", b"b"]), (b"\x10a\x10b".to_vec(), false));
        assert_eq!(run(b"", &[b"\x10\x11"]), (b"\x10\x11".to_vec(), false));
    }
}

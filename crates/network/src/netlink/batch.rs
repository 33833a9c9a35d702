//! Several messages, sent at once.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;

use super::flags::{ACK, REQUEST};

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

/// Several messages, sent at once. The kernel works through them in order; only netfilter's transactions
/// stop at an error.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Where the message begins that is being written.
    open: Option<usize>,
    labels: Vec<Label>,
}

/// What a message does, to be told when it fails.
#[derive(Debug)]
pub(crate) struct Label {
    pub(super) sequence: u32,
    pub(super) what: Cow<'static, str>,
    pub(super) tolerated: Vec<Errno>,
}

/// Numbers are never used twice by one process, so that a late answer is nobody's.
fn next_sequence() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Begins a message: type, flags beside "request", the family's fixed header, and what it does as a verb
    /// phrase. The attributes follow.
    pub(crate) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        what: impl Into<Cow<'static, str>>,
    ) -> &mut Self {
        self.finish();
        let sequence = next_sequence();
        self.labels.push(Label { sequence, what: what.into(), tolerated: vec![] });
        self.open = Some(self.bytes.len());
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.put(header)
    }

    /// Lets the last message fail this way.
    pub(crate) fn tolerate(&mut self, errno: Errno) -> &mut Self {
        if let Some(last) = self.labels.last_mut() {
            last.tolerated.push(errno);
        }
        self
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Bytes that are no attribute: a header within one.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.put(bytes)
    }

    /// An attribute of bytes.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.bytes.extend(length(value.len() + 4).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.put(value)
    }

    /// An attribute of text, terminated as the kernel wants it.
    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.bytes.extend(length(value.len() + 5).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value.as_bytes());
        self.put(&[0])
    }

    /// A number as route messages have it.
    pub(crate) fn native(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A number as netfilter messages have it.
    pub(crate) fn big(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// An attribute of attributes.
    pub(crate) fn nest(&mut self, kind: u16, content: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        content(self);
        let size = length(self.bytes.len() - start);
        self.bytes[start..start + 2].copy_from_slice(&size.to_ne_bytes());
        self
    }

    /// Length of the message being written, in bytes.
    pub(crate) fn message_length(&self) -> usize {
        self.open.map_or(0, |start| self.bytes.len() - start)
    }

    fn finish(&mut self) {
        if let Some(start) = self.open.take() {
            let size = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
            self.bytes[start..start + 4].copy_from_slice(&size.to_ne_bytes());
        }
    }

    /// Asks the kernel to confirm the last message, so that success is told too.
    pub(super) fn acknowledge(&mut self) {
        if let Some(flags) = self.open.and_then(|start| self.bytes.get_mut(start + 6..start + 8)) {
            let wanted = u16::from_ne_bytes([flags[0], flags[1]]) | ACK;
            flags.copy_from_slice(&wanted.to_ne_bytes());
        }
    }

    pub(super) fn into_parts(mut self) -> (Vec<u8>, Vec<Label>) {
        self.finish();
        (self.bytes, self.labels)
    }
}

/// Attributes have 16 bits for their length; callers cut long lists (see `firewall::transaction`).
fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

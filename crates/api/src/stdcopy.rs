//! The frames in which output of a container without terminal is sent: eight bytes (stream, three zeros, length
//! in network order), then the payload.

/// Bytes of a frame's head.
pub const HEADER: usize = 8;

/// Which stream a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Never sent by the engine; some clients send it.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A message of the engine itself: the stream failed.
    System,
}

/// The head of a frame with `length` bytes of payload.
pub fn header(stream: Stream, length: u32) -> [u8; HEADER] {
    let [a, b, c, d] = length.to_be_bytes();
    [stream as u8, 0, 0, 0, a, b, c, d]
}

/// Appends a frame to `out`.
pub fn frame(out: &mut Vec<u8>, stream: Stream, payload: &[u8]) {
    for part in payload.chunks(u32::MAX as usize) {
        // A chunk is no longer than u32::MAX.
        out.extend_from_slice(&header(stream, part.len() as u32));
        out.extend_from_slice(part);
    }
}

/// Takes frames apart; fed with whatever pieces arrive.
#[derive(Debug, Default)]
pub struct Demux {
    head: Vec<u8>,
    current: Option<(Stream, usize)>,
}

/// A frame of a stream that does not exist: the bytes are not framed at all, or the connection is garbled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unrecognized stream: {0}")]
pub struct UnknownStream(pub u8);

impl Demux {
    /// Takes `bytes` apart; `each` gets every piece of payload with its stream, in order.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(Stream, &[u8]),
    ) -> Result<(), UnknownStream> {
        while !bytes.is_empty() {
            let Some((stream, left)) = self.current else {
                let taken = bytes.len().min(HEADER - self.head.len());
                self.head.extend_from_slice(&bytes[..taken]);
                bytes = &bytes[taken..];
                self.begin()?;
                continue;
            };
            let taken = bytes.len().min(left);
            each(stream, &bytes[..taken]);
            bytes = &bytes[taken..];
            self.current = (taken < left).then_some((stream, left - taken));
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), UnknownStream> {
        let &[kind, _, _, _, a, b, c, d] = self.head.as_slice() else { return Ok(()) };
        let stream = match kind {
            0 => Stream::Stdin,
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            3 => Stream::System,
            other => return Err(UnknownStream(other)),
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        self.head.clear();
        self.current = (length > 0).then_some((stream, length));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_apart_however_they_are_cut() {
        let mut bytes = Vec::new();
        frame(&mut bytes, Stream::Stdout, b"hello ");
        frame(&mut bytes, Stream::Stderr, b"oh");
        frame(&mut bytes, Stream::Stdout, b"world");
        for size in 1..bytes.len() {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut demux = Demux::default();
            for piece in bytes.chunks(size) {
                demux
                    .feed(piece, |stream, part| match stream {
                        Stream::Stdout => out.extend_from_slice(part),
                        _ => err.extend_from_slice(part),
                    })
                    .unwrap();
            }
            assert_eq!((out.as_slice(), err.as_slice()), (&b"hello world"[..], &b"oh"[..]));
        }
        assert_eq!(Demux::default().feed(b"not a frame", |_, _| ()), Err(UnknownStream(b'n')));
    }
}

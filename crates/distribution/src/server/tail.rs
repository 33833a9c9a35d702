//! Bytes that came over a connection, until they are enough to be written.

use std::fs::File;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};

/// Pieces below this are copied together: each would hold the whole buffer that it was received in.
const SMALL: usize = 32 << 10;

/// Bytes that wait until they are a block.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pieces: Vec<Bytes>,
    /// Small pieces, after all others.
    small: BytesMut,
    size: usize,
}

impl Tail {
    /// Adds a piece.
    pub(super) fn push(&mut self, piece: Bytes) {
        self.size += piece.len();
        if piece.len() < SMALL {
            self.small.extend_from_slice(&piece);
        } else {
            self.close_small();
            self.pieces.push(piece);
        }
    }

    /// How many bytes they are.
    pub(super) const fn size(&self) -> usize {
        self.size
    }

    /// Writes the first `most` bytes at `at`, and drops them.
    pub(super) fn write(&mut self, file: &File, mut at: u64, mut most: usize) -> io::Result<()> {
        self.close_small();
        while most > 0 {
            let mut room = most;
            let slices = self.pieces.iter().map_while(|piece| {
                let length = piece.len().min(room);
                room -= length;
                (length > 0).then(|| IoSlice::new(&piece[..length]))
            });
            let slices: Vec<_> = slices.collect();
            let written = match rustix::io::pwritev(file, &slices, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Err(rustix::io::Errno::INTR) => continue,
                written => written?,
            };
            self.drop_first(written);
            at += written as u64;
            most -= written;
        }
        Ok(())
    }

    fn close_small(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
    }

    fn drop_first(&mut self, mut count: usize) {
        self.size -= count;
        let whole = self.pieces.iter().take_while(|piece| {
            let all = piece.len() <= count;
            count -= if all { piece.len() } else { 0 };
            all
        });
        let whole = whole.count();
        self.pieces.drain(..whole);
        if let Some(first) = self.pieces.first_mut() {
            first.advance(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn pieces_of_any_size_are_written_where_they_belong() {
        let file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..600_000u32).map(|number| (number / 7) as u8).collect();
        let (mut tail, mut rest) = (Tail::default(), &content[..]);
        for length in [1, SMALL, 7, 11, SMALL + 1, SMALL, SMALL - 1, 300_000].into_iter().cycle() {
            let (piece, after) = rest.split_at(length.min(rest.len()));
            tail.push(Bytes::copy_from_slice(piece));
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        tail.write(&file, 0, 65_537).unwrap();
        assert_eq!((file.metadata().unwrap().len(), tail.size()), (65_537, content.len() - 65_537));
        tail.push(Bytes::from_static(b"end"));
        tail.write(&file, 65_537, tail.size()).unwrap();
        let mut back = vec![0; content.len() + 3];
        file.read_exact_at(&mut back, 0).unwrap();
        assert!(back[..content.len()] == content && back.ends_with(b"end"));
        assert!(tail.size() == 0 && tail.pieces.is_empty());
    }

    #[test]
    fn small_pieces_do_not_hold_what_they_came_in() {
        let mut tail = Tail::default();
        for _ in 0..10_000 {
            tail.push(Bytes::from(vec![1; 20]).slice(..1));
        }
        assert!(tail.pieces.is_empty() && tail.size() == 10_000);
    }
}

//! Runs a reader and a digest on a thread of their own, so that inflating and hashing overlap with writing files.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use wharf_oci::{Digest, Hasher};

/// Bytes handed over at once; big enough that a wake-up per piece does not matter.
const PIECE: usize = 256 * 1024;
/// Pieces under way: bounds the memory to a megabyte.
const PIECES: usize = 4;

/// Reads `input` to its end on another thread; `consume` gets its bytes here. Returns what `consume` made of them, the
/// digest of all bytes and their number. Input that `consume` leaves is read (and counts in the digest) all the same.
pub(crate) fn pump<T, E: From<io::Error>>(
    input: impl Read + Send,
    limit: u64,
    consume: impl FnOnce(&mut PumpReader) -> Result<T, E>,
) -> Result<(T, Digest, u64), E> {
    thread::scope(|scope| {
        let (full_sender, full) = sync_channel(PIECES);
        let (empty, empty_receiver) = channel();
        let worker = thread::Builder::new()
            .name("layer-input".to_owned())
            .spawn_scoped(scope, move || feed(input, limit, &full_sender, &empty_receiver))?;
        let mut reader = PumpReader { full, empty, piece: Vec::new(), at: 0 };
        let made = consume(&mut reader)?;
        reader.drain()?;
        // The thread has sent its end of input by now, so it has returned its digest; a panic aborts or is passed on.
        let (digest, length) = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((made, digest, length))
    })
}

type Piece = io::Result<Vec<u8>>;

fn feed(
    mut input: impl Read,
    limit: u64,
    full: &SyncSender<Piece>,
    empty: &Receiver<Vec<u8>>,
) -> (Digest, u64) {
    let (mut hasher, mut length) = (Hasher::new(), 0u64);
    loop {
        let mut piece = empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE));
        piece.clear();
        match (&mut input).take(PIECE as u64).read_to_end(&mut piece) {
            Ok(0) => break,
            Ok(_) => {
                hasher.update(&piece);
                length += piece.len() as u64;
            }
            Err(error) => {
                // Nobody listens any more when sending fails: they have an error of their own.
                let _ = full.send(Err(error));
                break;
            }
        }
        if length > limit {
            let _ = full.send(Err(too_long(limit)));
            break;
        }
        if full.send(Ok(piece)).is_err() {
            break;
        }
    }
    (hasher.finish(), length)
}

fn too_long(limit: u64) -> io::Error {
    io::Error::new(io::ErrorKind::QuotaExceeded, format!("archive exceeds the limit of {limit} bytes"))
}

/// The bytes that come from the other thread.
#[derive(Debug)]
pub(crate) struct PumpReader {
    full: Receiver<Piece>,
    empty: Sender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl PumpReader {
    fn drain(&mut self) -> io::Result<()> {
        loop {
            let length = self.fill_buf()?.len();
            if length == 0 {
                return Ok(());
            }
            self.consume(length);
        }
    }
}

impl BufRead for PumpReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.piece.len() {
            // A disconnected channel is the end of the input, here and at the other end.
            let next = self.full.recv().unwrap_or_else(|_| Ok(Vec::new()))?;
            let used = std::mem::replace(&mut self.piece, next);
            self.at = 0;
            let _ = self.empty.send(used);
        }
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for PumpReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_input_is_hashed_even_when_little_is_consumed() {
        let content = vec![5u8; PIECE * 3 + 17];
        let (first, digest, length) = pump::<_, io::Error>(&content[..], u64::MAX, |reader| {
            let mut first = [0; 2];
            reader.read_exact(&mut first)?;
            Ok(first)
        })
        .unwrap();
        assert_eq!((first, length), ([5, 5], content.len() as u64));
        assert_eq!(digest, Digest::of(&content));
    }

    #[test]
    fn an_early_end_of_the_consumer_ends_the_thread() {
        let result = pump::<(), _>(io::repeat(1), u64::MAX, |_| Err(io::Error::other("enough")));
        assert_eq!(result.unwrap_err().to_string(), "enough");
    }

    #[test]
    fn more_than_the_limit_is_an_error() {
        let result = pump(io::repeat(1), 1 << 20, |reader| io::copy(reader, &mut io::sink()));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
    }
}

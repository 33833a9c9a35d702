//! Bodies of answers: bytes at hand, a part of a file, or what another task sends.

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use rustix::io::ReadWriteFlags;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How much of a file is read at once: large enough that calls do not count, small enough for the second-level cache.
const PIECE: usize = 128 << 10;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Bytes at hand.
    Bytes(Option<Bytes>),
    /// A part of a file.
    File(FilePart),
    /// What a task sends, of a length that is known.
    Stream {
        /// The pieces; an error cuts the connection, so that nobody takes a part for the whole.
        pieces: mpsc::Receiver<io::Result<Bytes>>,
        /// What is still to come.
        left: u64,
    },
}

impl Answer {
    pub(crate) fn bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::Bytes(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    pub(crate) const fn empty() -> Self {
        Self::Bytes(None)
    }

    /// How many bytes are still to be sent.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::File(part) => part.end - part.at,
            Self::Stream { left, .. } => *left,
        }
    }
}

/// The bytes of a file from `at` up to `end`.
#[derive(Debug)]
pub(crate) struct FilePart {
    file: Arc<File>,
    at: u64,
    end: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FilePart {
    pub(crate) fn new(file: File, at: u64, end: u64) -> Self {
        Self { file: Arc::new(file), at, end, reading: None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.at >= self.end {
            return Poll::Ready(None);
        }
        if let Some(reading) = &mut self.reading {
            let read = ready!(Pin::new(reading).poll(context)).map_err(io::Error::other).flatten();
            self.reading = None;
            return Poll::Ready(Some(read.inspect(|bytes| self.at += bytes.len() as u64)));
        }
        let length = usize::try_from(self.end - self.at).unwrap_or(PIECE).min(PIECE);
        match read_cached(&self.file, self.at, length) {
            Ok(bytes) if !bytes.is_empty() => {
                self.at += bytes.len() as u64;
                Poll::Ready(Some(Ok(bytes)))
            }
            // Not in memory, or the file system cannot tell: a thread that may wait reads it.
            _ => {
                let (file, at) = (self.file.clone(), self.at);
                self.reading = Some(tokio::task::spawn_blocking(move || read(&file, at, length)));
                self.poll(context)
            }
        }
    }
}

/// Reads what is in the page cache, without waiting for a disk.
fn read_cached(file: &File, at: u64, length: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; length];
    let mut vectors = [io::IoSliceMut::new(&mut buffer)];
    let read = rustix::io::preadv2(file, &mut vectors, at, ReadWriteFlags::NOWAIT)?;
    buffer.truncate(read);
    Ok(buffer.into())
}

fn read(file: &File, at: u64, length: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; length];
    file.read_exact_at(&mut buffer, at)?;
    Ok(buffer.into())
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = match self.get_mut() {
            Self::Bytes(bytes) => bytes.take().map(Ok),
            Self::File(part) => ready!(part.poll(context)),
            Self::Stream { pieces, left } => match ready!(pieces.poll_recv(context)) {
                Some(Ok(piece)) if piece.len() as u64 <= *left => {
                    *left -= piece.len() as u64;
                    Some(Ok(piece))
                }
                Some(Ok(_)) => Some(Err(io::Error::other("more bytes than were announced"))),
                None if *left > 0 => Some(Err(io::ErrorKind::UnexpectedEof.into())),
                other => other,
            },
        };
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.length() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length())
    }
}

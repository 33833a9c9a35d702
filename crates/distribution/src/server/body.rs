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

use super::outlet::{LONGEST, Outlet, Piece};

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

    /// Lets a file's bytes be sent by the kernel, where the connection has an outlet for them.
    pub(crate) fn leave_by(&mut self, outlet: Option<Arc<Outlet>>) {
        if let Self::File(part) = self {
            part.outlet = outlet;
        }
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
    outlet: Option<Arc<Outlet>>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FilePart {
    pub(crate) fn new(file: File, at: u64, end: u64) -> Self {
        Self { file: Arc::new(file), at, end, outlet: None, reading: None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Piece>>> {
        if self.at >= self.end {
            return Poll::Ready(None);
        }
        if let Some(outlet) = self.outlet.as_ref().filter(|_| self.reading.is_none()) {
            let length = usize::try_from(self.end - self.at).unwrap_or(LONGEST).min(LONGEST);
            if is_cached(&self.file, self.at, length) {
                let piece = outlet.part(&self.file, self.at, length);
                self.at += length as u64;
                return Poll::Ready(Some(Ok(piece)));
            }
        }
        if let Some(reading) = &mut self.reading {
            let read = ready!(Pin::new(reading).poll(context)).map_err(io::Error::other).flatten();
            self.reading = None;
            return Poll::Ready(Some(read.map(|bytes| self.piece(bytes))));
        }
        let length = usize::try_from(self.end - self.at).unwrap_or(PIECE).min(PIECE);
        match read_cached(&self.file, self.at, length) {
            Ok(bytes) if !bytes.is_empty() => Poll::Ready(Some(Ok(self.piece(bytes)))),
            // Not in memory, or the file system cannot tell: a thread that may wait reads it.
            _ => {
                let (file, at) = (self.file.clone(), self.at);
                self.reading = Some(tokio::task::spawn_blocking(move || read(&file, at, length)));
                self.poll(context)
            }
        }
    }

    fn piece(&mut self, bytes: Bytes) -> Piece {
        self.at += bytes.len() as u64;
        Piece::Bytes(bytes)
    }
}

/// Whether both ends of a part are in the page cache: what lies between them was most likely read with them, and where
/// it was not the kernel waits for one read-ahead.
fn is_cached(file: &File, at: u64, length: usize) -> bool {
    let has = |at| read_cached(file, at, 1).is_ok_and(|bytes| !bytes.is_empty());
    has(at) && has(at + length as u64 - 1)
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
    type Data = Piece;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, io::Error>>> {
        let piece = match self.get_mut() {
            Self::Bytes(bytes) => bytes.take().map(Piece::Bytes).map(Ok),
            Self::File(part) => ready!(part.poll(context)),
            Self::Stream { pieces, left } => match ready!(pieces.poll_recv(context)) {
                Some(Ok(piece)) if piece.len() as u64 <= *left => {
                    *left -= piece.len() as u64;
                    Some(Ok(Piece::Bytes(piece)))
                }
                Some(Ok(_)) => Some(Err(io::Error::other("more bytes than were announced"))),
                None if *left > 0 => Some(Err(io::ErrorKind::UnexpectedEof.into())),
                Some(Err(error)) => Some(Err(error)),
                None => None,
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

//! Parts of files on plain connections: the kernel sends them from its cache, and no byte passes through this process.
//!
//! The HTTP layer knows bytes alone, so a part of a file travels through it as a [`Piece`] whose bytes are a stand-in
//! of the same length. [`Plain`], below that layer, meets the stand-in by its address and sends what it stands for.
//!
//! invariant: parts are queued in the order in which their stand-ins are written. Whoever copied a stand-in instead of
//! writing it would move on in the piece without anything having been sent: the connection is cut then.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use rustix::fs::sendfile;
use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// The longest part: others have their turn after it.
pub(super) const LONGEST: usize = 512 << 10;
/// Never touched, and thus no memory: its address is all that matters.
static STAND_IN: LazyLock<Box<[u8]>> = LazyLock::new(|| vec![0; LONGEST].into());

/// What a connection has still to send of files.
#[derive(Debug, Default)]
pub(crate) struct Outlet(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    parts: VecDeque<Part>,
    /// Bytes sent that the HTTP layer has not yet moved on by.
    ahead: usize,
    /// The layer moved on by bytes that were not sent.
    copied: bool,
}

#[derive(Debug)]
struct Part {
    file: Arc<File>,
    at: u64,
    left: usize,
}

impl Outlet {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a part of a file, of at most [`LONGEST`] bytes; what stands for it.
    pub(super) fn part(self: &Arc<Self>, file: &Arc<File>, at: u64, length: usize) -> Piece {
        let left = length.min(LONGEST);
        self.lock().parts.push_back(Part { file: file.clone(), at, left });
        Piece::Part { outlet: self.clone(), left }
    }

    /// Sends what the stand-in at the front of the queue stands for, at most `most` bytes; how many it were.
    fn send(&self, stream: &TcpStream, most: usize) -> io::Result<usize> {
        let mut queue = self.lock();
        let queue = &mut *queue;
        let Some(part) = queue.parts.front_mut() else {
            return Err(io::Error::other("a part of a file that nobody queued"));
        };
        let sent = sendfile(stream.as_fd(), &*part.file, Some(&mut part.at), part.left.min(most))?;
        if sent == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        part.left -= sent;
        queue.ahead += sent;
        if part.left == 0 {
            queue.parts.pop_front();
        }
        Ok(sent)
    }

    fn advance(&self, count: usize) {
        let mut queue = self.lock();
        match queue.ahead.checked_sub(count) {
            Some(ahead) => queue.ahead = ahead,
            None => queue.copied = true,
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.lock().copied {
            return Err(io::Error::other("the stand-in of a file was copied"));
        }
        Ok(())
    }
}

/// A piece of a body.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Bytes at hand.
    Bytes(Bytes),
    /// What stands for a part of a file.
    Part {
        /// Where the part is queued.
        outlet: Arc<Outlet>,
        /// How many of its bytes are not sent.
        left: usize,
    },
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Part { left, .. } => *left,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Part { left, .. } => &STAND_IN[..*left],
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(count),
            Self::Part { outlet, left } => {
                outlet.advance(count);
                *left -= count;
            }
        }
    }
}

/// A plain connection.
#[derive(Debug)]
pub(super) struct Plain {
    stream: TokioIo<TcpStream>,
    outlet: Arc<Outlet>,
}

impl Plain {
    /// A connection whose parts of files are queued at `outlet`.
    pub(super) fn new(stream: TcpStream, outlet: Arc<Outlet>) -> Self {
        Self { stream: TokioIo::new(stream), outlet }
    }

    /// Writes with a call of its own, once the connection can be written to.
    fn poll_own(
        &self,
        context: &mut Context<'_>,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let stream = self.stream.inner();
        loop {
            ready!(stream.poll_write_ready(context))?;
            match stream.try_io(Interest::WRITABLE, || write(stream)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }
}

fn is_stand_in(slice: &[u8]) -> bool {
    STAND_IN.as_ptr_range().contains(&slice.as_ptr()) && !slice.is_empty()
}

impl Read for Plain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Plain {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Err(error) = self.outlet.check() {
            return Poll::Ready(Err(error));
        }
        if is_stand_in(bytes) {
            return self.poll_own(context, |stream| self.outlet.send(stream, bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Err(error) = self.outlet.check() {
            return Poll::Ready(Err(error));
        }
        let pieces = &pieces[pieces.iter().take_while(|piece| piece.is_empty()).count()..];
        match pieces.iter().position(|piece| is_stand_in(piece)) {
            Some(0) => self.poll_write(context, &pieces[0]),
            // A head and then a file: the kernel is told that more comes, so that they share a packet.
            Some(1) => self.poll_own(context, |stream| {
                rustix::net::send(stream.as_fd(), &pieces[0], SendFlags::MORE | SendFlags::NOSIGNAL)
                    .map_err(io::Error::from)
            }),
            Some(first) => Pin::new(&mut self.stream).poll_write_vectored(context, &pieces[..first]),
            None => Pin::new(&mut self.stream).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::Ipv4Addr;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Plain, Arc<Outlet>, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let outlet = Arc::<Outlet>::default();
        (Plain::new(listener.accept().await.unwrap().0, outlet.clone()), outlet, theirs)
    }

    fn file(bytes: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Arc::new(file)
    }

    /// Writes pieces as the HTTP layer does: all at once, moving on by what was taken.
    async fn write(ours: &mut Plain, mut pieces: VecDeque<Piece>) -> io::Result<()> {
        while !pieces.is_empty() {
            let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece.chunk())).collect();
            let write =
                std::future::poll_fn(|context| Pin::new(&mut *ours).poll_write_vectored(context, &slices));
            let mut written = write.await?;
            while let Some(piece) = pieces.front_mut().filter(|_| written > 0) {
                let count = written.min(piece.remaining());
                piece.advance(count);
                written -= count;
                if !piece.has_remaining() {
                    pieces.pop_front();
                }
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn parts_of_files_arrive_between_the_bytes_around_them() {
        let (mut ours, outlet, mut theirs) = pair().await;
        let content: Vec<u8> = (0..3 * LONGEST).map(|at| (at % 251) as u8).collect();
        let file = file(&content);
        let part = |at: usize, length| outlet.part(&file, at as u64, length);
        let pieces = VecDeque::from([
            Piece::Bytes("head".into()),
            part(1, LONGEST),
            part(1 + LONGEST, 1000),
            Piece::Bytes("and".into()),
            Piece::Bytes("more".into()),
            part(7, 1),
        ]);
        let expected = [b"head", &content[1..1 + LONGEST + 1000], b"andmore", &content[7..8]].concat();
        let reading = tokio::spawn(async move {
            let mut got = vec![0; expected.len()];
            theirs.read_exact(&mut got).await.unwrap();
            got == expected
        });
        write(&mut ours, pieces).await.unwrap();
        assert!(reading.await.unwrap());
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_ends_the_connection() {
        let (mut ours, outlet, _theirs) = pair().await;
        let piece = outlet.part(&file(b"short"), 0, 6);
        let error = write(&mut ours, VecDeque::from([piece])).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_copied_stand_in_is_never_sent() {
        let (mut ours, outlet, _theirs) = pair().await;
        let mut copied = outlet.part(&file(b"content"), 0, 7);
        let bytes = copied.copy_to_bytes(7);
        assert!(write(&mut ours, VecDeque::from([Piece::Bytes(bytes)])).await.is_err());
    }
}

//! Bodies that flow: bounded channels of bytes between the HTTP layer, async code and blocking workers.
//!
//! Whoever reads slowly slows the writer down; whoever drops its end makes the other one see the end
//! (a reader) or a broken pipe (a writer).

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::error::{Error, Result};

/// How many chunks may be under way before the writer waits.
const DEPTH: usize = 8;
/// What [`BodyWriter`] gathers before it hands a chunk on, in bytes.
const CHUNK: usize = 128 * 1024;

/// A stream of bytes; request bodies on their way in, answers on their way out.
#[derive(Debug)]
pub struct ByteStream {
    receiver: mpsc::Receiver<Result<Bytes>>,
}

/// The writing end of a [`ByteStream`].
#[derive(Debug, Clone)]
pub struct ByteSender {
    sender: mpsc::Sender<Result<Bytes>>,
}

/// A stream of JSON messages, one per line, as `load`, `import` and `pull` answer.
pub type Progress = ByteStream;

impl ByteStream {
    /// A stream and its writing end.
    pub fn channel() -> (ByteSender, Self) {
        let (sender, receiver) = mpsc::channel(DEPTH);
        (ByteSender { sender }, Self { receiver })
    }

    /// A stream that ends at once.
    pub fn empty() -> Self {
        Self::channel().1
    }

    /// The next chunk; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        self.receiver.recv().await
    }

    /// The next chunk, for poll-based callers such as an HTTP body.
    pub fn poll_next(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Bytes>>> {
        self.receiver.poll_recv(context)
    }

    /// The stream as a blocking reader; only for threads that may sleep.
    pub fn into_reader(self) -> BodyReader {
        BodyReader { stream: self, rest: Bytes::new() }
    }
}

impl From<Bytes> for ByteStream {
    fn from(bytes: Bytes) -> Self {
        let (sender, stream) = Self::channel();
        // The channel is empty and its reader lives, so that this cannot fail.
        let _ = sender.sender.try_send(Ok(bytes));
        stream
    }
}

impl ByteSender {
    /// Hands on a chunk, waiting while the reader is behind. An error means that the reader went away.
    pub async fn send(&self, bytes: Bytes) -> Result<()> {
        self.sender.send(Ok(bytes)).await.map_err(|_| reader_gone())
    }

    /// [`Self::send`] from a thread that may sleep.
    pub fn blocking_send(&self, bytes: Bytes) -> Result<()> {
        self.sender.blocking_send(Ok(bytes)).map_err(|_| reader_gone())
    }

    /// Ends the stream with an error.
    pub async fn fail(self, error: Error) {
        // Nobody is left to tell when the reader went away.
        let _ = self.sender.send(Err(error)).await;
    }

    /// [`Self::fail`] from a thread that may sleep.
    pub fn blocking_fail(self, error: Error) {
        let _ = self.sender.blocking_send(Err(error));
    }

    /// Sends one message of a [`Progress`] from a thread that may sleep: JSON and a line end.
    pub fn blocking_message<T: Serialize>(&self, message: &T) -> Result<()> {
        self.blocking_send(line(message)?)
    }

    /// Sends one message of a [`Progress`].
    pub async fn message<T: Serialize>(&self, message: &T) -> Result<()> {
        self.send(line(message)?).await
    }

    /// Resolves when the reader has gone away.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// The sender as a blocking writer; only for threads that may sleep.
    pub fn into_writer(self) -> BodyWriter {
        BodyWriter { sender: self, buffer: BytesMut::new() }
    }
}

fn line<T: Serialize>(message: &T) -> Result<Bytes> {
    let mut text = serde_json::to_vec(message).map_err(|error| Error::internal(error.to_string()))?;
    text.extend_from_slice(b"\r\n");
    Ok(Bytes::from(text))
}

fn reader_gone() -> Error {
    Error::internal("write answer: the client went away")
}

/// A [`ByteStream`] read from a thread that may sleep.
#[derive(Debug)]
pub struct BodyReader {
    stream: ByteStream,
    rest: Bytes,
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.stream.receiver.blocking_recv() {
                None => return Ok(0),
                Some(Err(error)) => return Err(io::Error::other(error)),
                Some(Ok(bytes)) => self.rest = bytes,
            }
        }
        let length = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// A [`ByteSender`] written from a thread that may sleep. Flush before dropping: the drop does not.
#[derive(Debug)]
pub struct BodyWriter {
    sender: ByteSender,
    buffer: BytesMut,
}

impl BodyWriter {
    /// Ends the stream with an error in place of what is still buffered.
    pub fn fail(self, error: Error) {
        self.sender.blocking_fail(error);
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = self.buffer.split().freeze();
        self.sender.blocking_send(chunk).map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_in_order_and_end() {
        let (sender, stream) = ByteStream::channel();
        let writing = std::thread::spawn(move || {
            let mut writer = sender.into_writer();
            for number in 0..100_000_u32 {
                writer.write_all(&number.to_le_bytes())?;
            }
            writer.flush()
        });
        let mut all = Vec::new();
        stream.into_reader().read_to_end(&mut all).unwrap();
        writing.join().unwrap().unwrap();
        assert_eq!(all.len(), 400_000);
        assert_eq!(all[399_996..], 99_999_u32.to_le_bytes());
    }

    #[test]
    fn a_writer_without_reader_breaks() {
        let (sender, stream) = ByteStream::channel();
        drop(stream);
        let mut writer = sender.into_writer();
        writer.write_all(b"x").unwrap();
        assert_eq!(writer.flush().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn errors_reach_the_reader() {
        let (sender, stream) = ByteStream::channel();
        sender.blocking_send(Bytes::from_static(b"ab")).unwrap();
        sender.blocking_fail(Error::internal("cut"));
        let mut all = Vec::new();
        let error = stream.into_reader().read_to_end(&mut all).unwrap_err();
        assert_eq!((all.as_slice(), error.to_string().as_str()), (&b"ab"[..], "cut"));
    }
}

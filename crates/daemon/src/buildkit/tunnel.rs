//! A session inside a call: its bytes travel as messages of `Control/Session`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bollard_buildkit_proto::moby::buildkit::v1::BytesMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio_stream::{Stream, StreamExt};
use tonic::{Status, Streaming};

/// The bytes that wait in either direction, at most; also the longest message sent.
const BUFFER: usize = 256 << 10;

/// The bytes of `messages` as one end of a connection; what is written to it comes out of the second.
pub(super) fn open(messages: Streaming<BytesMessage>) -> (DuplexStream, Outgoing) {
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let (read, write) = tokio::io::split(theirs);
    tokio::spawn(async move {
        if let Err(error) = take(messages, write).await {
            tracing::debug!("session in a call: {error}");
        }
    });
    (ours, Outgoing::new(read))
}

async fn take(mut messages: Streaming<BytesMessage>, mut into: WriteHalf<DuplexStream>) -> io::Result<()> {
    while let Some(message) = messages.next().await {
        into.write_all(&message.map_err(io::Error::other)?.data).await?;
    }
    into.shutdown().await
}

type Read = Pin<Box<dyn Future<Output = (io::Result<Vec<u8>>, ReadHalf<DuplexStream>)> + Send>>;

/// What goes to the client, as messages.
pub(super) struct Outgoing {
    next: Option<Read>,
}

impl Outgoing {
    fn new(from: ReadHalf<DuplexStream>) -> Self {
        Self { next: Some(read(from)) }
    }
}

fn read(mut from: ReadHalf<DuplexStream>) -> Read {
    Box::pin(async move {
        let mut data = Vec::with_capacity(32 << 10);
        let read = from.read_buf(&mut data).await;
        (read.map(|_| data), from)
    })
}

impl Stream for Outgoing {
    type Item = Result<BytesMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(next) = &mut self.next else { return Poll::Ready(None) };
        let (data, from) = match next.as_mut().poll(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(read) => read,
        };
        match data {
            Ok(data) if !data.is_empty() => {
                self.next = Some(read(from));
                Poll::Ready(Some(Ok(BytesMessage { data })))
            }
            _ => {
                self.next = None;
                Poll::Ready(None)
            }
        }
    }
}

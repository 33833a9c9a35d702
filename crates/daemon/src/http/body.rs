//! Bodies of answers, and bodies of requests as the engine reads them.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use wharf_engine::{ByteStream, Error};

/// How long a body that nobody wants is still read.
const PATIENCE: Duration = Duration::from_secs(10);

/// The body of an answer.
#[derive(Debug, Default)]
pub(crate) enum AnswerBody {
    /// Nothing.
    #[default]
    Empty,
    /// All of it, once.
    Full(Bytes),
    /// What comes, as it comes.
    Stream(ByteStream),
    /// The piece that was waited for before the status was chosen, then what comes.
    Begun(Bytes, ByteStream),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match std::mem::take(&mut *self) {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Self::Begun(bytes, rest) => {
                *self = Self::Stream(rest);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Stream(mut stream) => {
                let next = stream.poll_next(context);
                if !matches!(next, Poll::Ready(None)) {
                    *self = Self::Stream(stream);
                }
                next.map(|next| next.map(|chunk| chunk.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(_) | Self::Begun(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) | Self::Begun(..) => SizeHint::default(),
        }
    }
}

/// A request's body as a stream that the engine reads at its own pace.
///
/// A client that still sends when its answer comes and the connection closes sees a broken pipe and not the answer.
/// So what nobody wants to read is read and forgotten.
pub(crate) fn into_stream(mut body: Incoming) -> ByteStream {
    if body.is_end_stream() {
        return ByteStream::empty();
    }
    let (sender, stream) = ByteStream::channel();
    tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if sender.send(data).await.is_err() {
                        return forget(body).await;
                    }
                }
                Err(error) => {
                    return sender.fail(Error::invalid(format!("read request body: {error}"))).await;
                }
            }
        }
    });
    stream
}

/// Reads the rest of a body, for as long as a client may reasonably take to see its answer.
async fn forget(mut body: Incoming) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    // Whoever sends for longer than that is cut off.
    let _ = tokio::time::timeout(PATIENCE, rest).await;
}

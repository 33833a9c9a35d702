//! Bodies both ways: what is sent tells how far it got, what is received must keep coming.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{HeaderMap, HeaderName};
use hyper::{Response, StatusCode};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, timeout};

use super::pool::Lease;
use super::url::Url;
use super::words;
use crate::client::config::Patience;
use crate::client::error::TransportError;

const CHUNK: usize = 128 << 10;
/// What is left of an answer is read up to here, so that its connection can be used again.
const DISCARD_LIMIT: usize = 64 << 10;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// The body of a request.
pub(crate) enum Outgoing {
    Empty,
    Full(Bytes),
    Reader(Reader),
}

/// Exactly `left` bytes of a reader.
pub(crate) struct Reader {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    left: u64,
    buffer: Vec<u8>,
    sent: Arc<AtomicU64>,
}

impl Outgoing {
    /// The next `length` bytes of `reader`; fewer break the request off.
    pub(crate) fn reader(reader: Box<dyn AsyncRead + Send + Unpin>, length: u64) -> Self {
        Self::Reader(Reader { reader, left: length, buffer: Vec::new(), sent: Arc::default() })
    }

    /// The same body once more, where that costs nothing.
    pub(crate) fn again(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Full(bytes) => Some(Self::Full(bytes.clone())),
            Self::Reader(_) => None,
        }
    }

    /// Its length in bytes.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Full(bytes) => bytes.len() as u64,
            Self::Reader(reader) => reader.left,
        }
    }

    /// How many bytes were taken to be sent.
    pub(crate) fn sent(&self) -> Arc<AtomicU64> {
        match self {
            Self::Reader(reader) => Arc::clone(&reader.sent),
            // Small enough to count as sent at once.
            _ => Arc::new(AtomicU64::new(self.length())),
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let body = self.get_mut();
        match body {
            Self::Empty => Poll::Ready(None),
            Self::Full(_) => match std::mem::replace(body, Self::Empty) {
                Self::Full(bytes) if !bytes.is_empty() => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                _ => Poll::Ready(None),
            },
            Self::Reader(reader) => reader.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.length() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length())
    }
}

impl Reader {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let want = usize::try_from(self.left).map_or(CHUNK, |left| left.min(CHUNK));
        self.buffer.resize(want, 0);
        let mut space = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(&mut self.reader).poll_read(context, &mut space))?;
        let filled = space.filled().len();
        if filled == 0 {
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.truncate(filled);
        self.left -= filled as u64;
        self.sent.fetch_add(filled as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(buffer)))))
    }
}

/// An answer whose head has come.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: AnswerBody,
    /// Who answered, after redirects.
    pub(crate) url: Url,
}

impl Answer {
    pub(crate) fn new(
        response: Response<Incoming>,
        lease: Option<Lease>,
        url: Url,
        patience: &Patience,
    ) -> Self {
        let (head, incoming) = response.into_parts();
        let body = AnswerBody {
            incoming,
            lease,
            window: patience.stall,
            least: patience.stall_bytes,
            waited: Duration::ZERO,
            got: 0,
        };
        Self { status: head.status, headers: head.headers, body, url }
    }

    /// A header's text, if it is there once or more (the first counts) and visible ASCII.
    pub(crate) fn header(&self, name: impl Into<HeaderName>) -> Option<&str> {
        self.headers.get(name.into())?.to_str().ok()
    }

    /// The length that the head announces.
    pub(crate) fn length(&self) -> Option<u64> {
        self.body.incoming.size_hint().exact()
    }
}

/// The body of an answer. Time counts only while it is waited for: a reader that is slow itself harms nobody.
pub(crate) struct AnswerBody {
    incoming: Incoming,
    lease: Option<Lease>,
    window: Duration,
    least: u64,
    waited: Duration,
    got: u64,
}

impl AnswerBody {
    /// The next bytes, never none; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        loop {
            let began = Instant::now();
            let Ok(frame) = timeout(self.window.saturating_sub(self.waited), self.incoming.frame()).await
            else {
                return Err(TransportError::Timeout("the body of the answer comes too slowly"));
            };
            let bytes = match frame {
                None => {
                    if let Some(lease) = self.lease.take() {
                        lease.release();
                    }
                    return Ok(None);
                }
                Some(Err(error)) => {
                    let error = words::of_hyper(&error);
                    let cut = matches!(error, TransportError::Closed);
                    return Err(if cut { TransportError::Cut } else { error });
                }
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            self.count(began.elapsed(), bytes.len() as u64);
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }

    fn count(&mut self, waited: Duration, got: u64) {
        self.waited += waited;
        self.got += got;
        if self.got >= self.least {
            self.waited = Duration::ZERO;
            self.got = 0;
        }
    }

    /// The whole body; `None` when it is longer than `limit`.
    pub(crate) async fn collect(&mut self, limit: u64) -> Result<Option<Bytes>, TransportError> {
        let mut all = Vec::new();
        while let Some(bytes) = self.chunk().await? {
            if (all.len() + bytes.len()) as u64 > limit {
                return Ok(None);
            }
            all.extend_from_slice(&bytes);
        }
        Ok(Some(all.into()))
    }

    /// Up to 64 KiB of the body, as far as they come soon, whatever comes after.
    pub(crate) async fn beginning(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let read = async {
            while let Ok(Some(bytes)) = self.chunk().await {
                let room = DISCARD_LIMIT - all.len();
                all.extend_from_slice(&bytes[..bytes.len().min(room)]);
                if bytes.len() >= room {
                    break;
                }
            }
        };
        // What came until then is told; an error page that drips is not waited for.
        let _ = timeout(DISCARD_TIME, read).await;
        all
    }
}

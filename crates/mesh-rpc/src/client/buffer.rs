//! The buffers that retries need: requests, and the responses of idempotent calls.
//!
//! Guarantees: the buffers of one peer hold at most [`MAX_BYTES`], and those of one call a quarter of it for each
//! direction. Above, a body goes on without a buffer, and its call without retries.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{self, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tonic::Status;
use tonic::body::Body;

/// The limit for the buffers of one peer.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The buffers of one peer.
#[derive(Default)]
pub(super) struct Buffers(Arc<AtomicUsize>);

/// A body after [`Buffers::read`].
pub(super) enum Read {
    /// The whole body, and the bytes that it holds of the limit.
    Whole(Bytes, Option<HeaderMap>, Reserved),
    /// A body above the limit: what was read already, and then the rest.
    TooLarge(Body),
}

impl Buffers {
    /// Reads a body into a buffer, up to the limit.
    ///
    /// # Errors
    ///
    /// The body's own.
    pub(super) async fn read<B>(&self, mut body: B) -> Result<Read, Status>
    where
        B: http_body::Body<Data = Bytes, Error = Status> + Send + Unpin + 'static,
    {
        let (mut chunks, mut trailers) = (VecDeque::new(), None);
        let mut reserved = Reserved { bytes: 0, all: Arc::clone(&self.0) };
        while let Some(frame) = body.frame().await {
            match frame?.into_data() {
                Ok(chunk) => {
                    let fits = reserved.add(chunk.len());
                    chunks.push_back(chunk);
                    if !fits {
                        return Ok(Read::TooLarge(Body::new(Resumed { read: chunks, rest: body })));
                    }
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        Ok(Read::Whole(joined(chunks), trailers, reserved))
    }
}

/// Bytes of the limit. A drop releases them.
pub(super) struct Reserved {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Reserved {
    fn add(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.all.fetch_add(bytes, Ordering::Relaxed) + bytes <= MAX_BYTES && self.bytes <= MAX_BYTES / 4
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One chunk is not copied: a message of tonic is one chunk.
fn joined(mut chunks: VecDeque<Bytes>) -> Bytes {
    if chunks.len() <= 1 {
        return chunks.pop_front().unwrap_or_default();
    }
    let mut joined = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    chunks.iter().for_each(|chunk| joined.extend_from_slice(chunk));
    joined.freeze()
}

/// A body whose start was read before.
struct Resumed<B> {
    read: VecDeque<Bytes>,
    rest: B,
}

impl<B: http_body::Body<Data = Bytes, Error = Status> + Unpin> http_body::Body for Resumed<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.read.pop_front() {
            Some(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.read.iter().map(Bytes::len).sum::<usize>() as u64;
        let (rest, mut hint) = (self.rest.size_hint(), SizeHint::new());
        hint.set_lower(read + rest.lower());
        if let Some(upper) = rest.upper() {
            hint.set_upper(read + upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt as _, stream};
    use http_body_util::StreamBody;

    const CHUNK: usize = 1024 * 1024;

    /// A body of so many chunks.
    fn body(chunks: usize) -> Body {
        let chunks = stream::iter(0..chunks).map(|_| Ok::<_, Status>(Frame::data(Bytes::from(vec![7; CHUNK]))));
        Body::new(StreamBody::new(chunks))
    }

    async fn is_whole(buffers: &Buffers, chunks: usize) -> Option<Reserved> {
        match buffers.read(body(chunks)).await.unwrap() {
            Read::Whole(bytes, _, reserved) => {
                assert_eq!(bytes.len(), chunks * CHUNK);
                Some(reserved)
            }
            Read::TooLarge(_) => None,
        }
    }

    #[tokio::test]
    async fn buffers_of_a_peer_share_a_limit() {
        let buffers = Buffers::default();
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(is_whole(&buffers, 16).await.expect("they fit"));
        }
        assert!(is_whole(&buffers, 1).await.is_none(), "the limit is reached");
        held.pop();
        assert!(is_whole(&buffers, 16).await.is_some(), "a call has ended");
        drop(held);
        assert_eq!(buffers.0.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn buffer_of_one_call_does_not_take_it_all() {
        assert!(is_whole(&Buffers::default(), 17).await.is_none());
    }

    #[tokio::test]
    async fn buffer_passes_a_larger_body_on_unchanged() {
        let buffers = Buffers::default();
        // It has no end: the rest is not read.
        let endless = stream::repeat(()).map(|()| Ok::<_, Status>(Frame::data(Bytes::from(vec![7; CHUNK]))));
        let Read::TooLarge(mut body) = buffers.read(Body::new(StreamBody::new(endless))).await.unwrap() else {
            panic!("it fits");
        };
        assert_eq!(buffers.0.load(Ordering::Relaxed), 0, "it holds nothing of the limit");
        for _ in 0..40 {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), CHUNK);
        }
        let Read::TooLarge(rest) = buffers.read(super::tests::body(20)).await.unwrap() else { panic!("it fits") };
        assert_eq!(rest.collect().await.unwrap().to_bytes().len(), 20 * CHUNK);
    }
}

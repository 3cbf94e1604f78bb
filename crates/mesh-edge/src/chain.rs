//! Bodies one after another.

use std::pin::Pin;
use std::task::{self, Poll};

use bytes::Bytes;
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;

/// The data of some bodies, in their order.
pub(crate) struct Chain<const N: usize> {
    parts: [Body; N],
    /// How many have ended.
    ended: usize,
}

impl<const N: usize> Chain<N> {
    pub(crate) fn new(parts: [Body; N]) -> Self {
        Self { parts, ended: 0 }
    }
}

impl<const N: usize> http_body::Body for Chain<N> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { parts, ended } = &mut *self;
        while let Some(part) = parts.get_mut(*ended) {
            match task::ready!(Pin::new(part).poll_frame(cx)) {
                Some(Ok(frame)) if frame.is_data() => return Poll::Ready(Some(Ok(frame))),
                // HTTP/1.1 may have trailers, and a call has none.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => *ended += 1,
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.parts.iter().skip(self.ended).all(Body::is_end_stream)
    }
}

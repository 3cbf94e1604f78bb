//! Where a call ends: at the last trailer of its body.
//!
//! A stream that fails after an hour failed, although its head said OK; and a body that is dropped before its end is a
//! call that somebody has given up.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// What wants to know how a call ends. It may be told more than once; the first is what counts, and if it is dropped
/// untold the call was given up.
pub(super) trait End: Unpin + Send + 'static {
    /// It has ended like this.
    fn end(&mut self, status: &Status);

    /// Does something that belongs to the call.
    fn within<T>(&self, something: impl FnOnce() -> T) -> T;
}

/// Tells `call` how it ends, now or at the end of the body.
pub(super) fn watch(response: Response<Body>, mut call: impl End) -> Response<Body> {
    // A call that fails before its first message has its status in the head; any other in the trailers.
    if let Some(status) = Status::from_header_map(response.headers()) {
        call.end(response.extensions().get().unwrap_or(&status));
    }
    response.map(|body| Body::new(Watched { body, call }))
}

struct Watched<E> {
    body: Body,
    call: E,
}

impl<E: End> http_body::Body for Watched<E> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, call } = &mut *self;
        let frame = call.within(|| Pin::new(body).poll_frame(cx));
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                    call.end(&status);
                }
            }
            Poll::Ready(Some(Err(status))) => call.end(status),
            Poll::Ready(None) => call.end(&Status::unknown("the body ended without a status")),
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

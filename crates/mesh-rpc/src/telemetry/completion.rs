//! Observes how a call ends.
//!
//! A call ends with the last trailer of its response body: a stream whose head was OK may still fail. A body that is
//! dropped before its end is a cancelled call.

use std::pin::Pin;
use std::task::{self, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// Observes one call. `completed` may be called more than once, and only the first call counts. An observer that is
/// dropped before it was called records a cancelled call.
pub(super) trait Observer: Unpin + Send + 'static {
    /// The call ended with `status`.
    fn completed(&mut self, status: &Status);

    /// Runs `work` within the spans of the call.
    fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T;
}

/// Reports the end of the call to `observer`: now, or at the end of the body.
pub(super) fn observe(response: Response<Body>, mut observer: impl Observer) -> Response<Body> {
    // A call that failed before its first message has its status in the head. Any other call has it in the trailers.
    if let Some(status) = Status::from_header_map(response.headers()) {
        observer.completed(response.extensions().get().unwrap_or(&status));
    }
    response.map(|body| Body::new(ObservedBody { body, observer }))
}

struct ObservedBody<O> {
    body: Body,
    observer: O,
}

impl<O: Observer> http_body::Body for ObservedBody<O> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, observer } = &mut *self;
        let frame = observer.in_scope(|| Pin::new(body).poll_frame(cx));
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                    observer.completed(&status);
                }
            }
            Poll::Ready(Some(Err(status))) => observer.completed(status),
            Poll::Ready(None) => observer.completed(&Status::unknown("the response ended without a status")),
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

//! Observes how a call ends.
//!
//! A call ends with the last trailer of its response body: a stream whose head was OK may still fail. A body that is
//! dropped before its end is a cancelled call.

use std::pin::Pin;
use std::task::{self, Poll};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Frame, SizeHint};
use tonic::Status;

use crate::call::body::status_of;
use crate::call::plain::Said;

/// Observes one call. `completed` may be called more than once, and only the first call counts. An observer that is
/// dropped before it was called records a cancelled call.
pub trait Observer: Unpin + Send + 'static {
    /// The call ended with `status`.
    fn completed(&mut self, status: &Status);

    /// The head of the answer has the code of HTTP, and no status of gRPC.
    fn answered(&mut self, _code: StatusCode) {}

    /// Runs `work` within the spans of the call.
    fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T;
}

/// Reports the end of the call to `observer`: now, or at the end of the body.
pub(super) fn observe<B, O: Observer>(response: Response<B>, mut observer: O) -> Response<ObservedBody<B, O>>
where
    B: http_body::Body<Data = Bytes, Error = Status> + Send + Unpin + 'static,
{
    if response.extensions().get::<Said>().is_some() {
        observer.answered(response.status());
    }
    // A call that failed before its first message has its status in the head. Any other call has it in the trailers.
    if let Some(status) = status_of(response.headers()) {
        observer.completed(response.extensions().get().unwrap_or(&status));
    }
    let said = response.extensions().get::<Said>().map(|said| said.0.clone());
    response.map(|body| ObservedBody { body, observer, said })
}

/// A response body. Its last frame is the end of the call.
pub struct ObservedBody<B, O: Observer> {
    body: B,
    observer: O,
    /// What the head of an answer of HTTP has said: that counts if the body is dropped before its end.
    said: Option<Status>,
}

impl<B, O: Observer> Drop for ObservedBody<B, O> {
    fn drop(&mut self) {
        if let Some(said) = &self.said {
            self.observer.completed(said);
        }
    }
}

impl<B, O> http_body::Body for ObservedBody<B, O>
where
    B: http_body::Body<Data = Bytes, Error = Status> + Unpin,
    O: Observer,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, observer, .. } = &mut *self;
        let frame = observer.in_scope(|| Pin::new(body).poll_frame(cx));
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(status) = frame.trailers_ref().and_then(status_of) {
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

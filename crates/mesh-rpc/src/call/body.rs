//! Ends a response body early, with a status.
//!
//! gRPC sends the status in the trailers, after the body. A drain or an expired deadline writes the trailers instead of
//! the handler, so that the client receives a code and not a broken connection.

use std::pin::Pin;
use std::task::{self, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

/// Ends `body` with the status of `end`, if `end` resolves before the body ends.
pub fn take_until(body: Body, end: impl Future<Output = Status> + Send + 'static) -> Body {
    Body::new(TakeUntil { body: Some(body), end: Box::pin(end) })
}

/// A body that ends with the status that `end` resolves to, if `end` resolves before the body ends.
struct TakeUntil<F> {
    /// `None` after the early end.
    body: Option<Body>,
    end: Pin<Box<F>>,
}

impl<F: Future<Output = Status>> http_body::Body for TakeUntil<F> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // `end` is polled first: a body that is always ready would never end otherwise. Polling in this order loses no
        // frame.
        if self.body.is_some()
            && let Poll::Ready(status) = self.end.as_mut().poll(cx)
        {
            // Dropping the body cancels the handler.
            self.body = None;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))));
        }
        match self.body.as_mut() {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(|body| body.size_hint()).unwrap_or_default()
    }
}

/// A body that most calls have as it is, and some in another one.
pub enum Either<A, B> {
    /// The body as it is.
    Plain(A),
    /// The body in another one.
    Wrapped(B),
}

impl<A, B> http_body::Body for Either<A, B>
where
    A: http_body::Body<Data = Bytes, Error = Status> + Unpin,
    B: http_body::Body<Data = Bytes, Error = Status> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut *self {
            Self::Plain(body) => Pin::new(body).poll_frame(cx),
            Self::Wrapped(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain(body) => body.is_end_stream(),
            Self::Wrapped(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(body) => body.size_hint(),
            Self::Wrapped(body) => body.size_hint(),
        }
    }
}

/// The status in a head or in trailers, if there is one. OK is recognised by its code alone: tonic copies all headers to
/// read a status.
pub fn status_of(headers: &HeaderMap) -> Option<Status> {
    match headers.get(Status::GRPC_STATUS)?.as_bytes() {
        b"0" => Some(Status::ok("")),
        _ => Status::from_header_map(headers),
    }
}

/// The failure in a head or in trailers, if there is one.
pub fn failure_of(headers: &HeaderMap) -> Option<Status> {
    status_of(headers).filter(|status| status.code() != Code::Ok)
}

/// Encodes a status as trailers, which end a stream.
pub fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // `add_header` fails if the message is not a valid header. The code is still correct then.
    if status.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", http::HeaderValue::from(status.code() as i32));
    }
    trailers
}

//! A response body that something other than its handler can end: a drain, or a deadline.
//!
//! gRPC's status comes after the body, in its trailers. To end a stream politely, so that a client sees a code and not
//! a broken connection, the trailers have to be written in the handler's place: that is what [`EndedBy`] does.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// A body that ends with the status that `end` resolves to, if `end` resolves before the body does.
pub struct EndedBy<F> {
    /// `None` once it was ended.
    body: Option<Body>,
    end: Pin<Box<F>>,
}

impl<F: Future<Output = Status> + Send + 'static> EndedBy<F> {
    /// Wraps a body.
    pub fn wrap(body: Body, end: F) -> Body {
        Body::new(Self { body: Some(body), end: Box::pin(end) })
    }
}

impl<F: Future<Output = Status>> http_body::Body for EndedBy<F> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        // The end first: a body that always has more would otherwise never be ended. No frame is taken out of the
        // body and then thrown away.
        if self.body.is_some()
            && let Poll::Ready(status) = self.end.as_mut().poll(cx)
        {
            // Dropping the body is what stops the handler behind it.
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

/// A status as trailers, which end a stream.
pub fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Fails for a message that cannot be a header, and our messages can; the code alone is then still right.
    if status.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", http::HeaderValue::from(status.code() as i32));
    }
    trailers
}

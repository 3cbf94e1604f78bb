//! Ends a response body early, with a status.
//!
//! gRPC sends the status in the trailers, after the body. A drain or an expired deadline writes the trailers instead of
//! the handler, so that the client receives a code and not a broken connection.

use std::pin::Pin;
use std::task::{self, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use super::method::{Method, Protocol};

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

/// The body of a request that is passed on as it arrives, without trailers, which no call has.
///
/// Most clients end a request with an empty frame. A peer counts those that do not end the stream, and closes a
/// connection after a hundred of them; so none is passed on, and the last frame with data ends the body if the end has
/// arrived with it.
pub struct PassedThrough {
    body: Body,
    /// The frame behind the last one.
    next: Option<Result<Frame<Bytes>, Status>>,
    ended: bool,
}

impl PassedThrough {
    /// A body that is passed on.
    pub fn of(body: Body) -> Self {
        let ended = body.is_end_stream();
        Self { body, next: None, ended }
    }

    /// The next frame with data.
    fn poll_data(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            match task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) if frame.data_ref().is_none_or(Bytes::is_empty) => {}
                polled => return Poll::Ready(polled),
            }
        }
    }
}

impl http_body::Body for PassedThrough {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = match self.next.take() {
            Some(frame) => Some(frame),
            None => task::ready!(self.poll_data(cx)),
        };
        if matches!(frame, Some(Ok(_))) {
            match self.poll_data(cx) {
                Poll::Ready(Some(next)) => self.next = Some(next),
                Poll::Ready(None) => self.ended = true,
                Poll::Pending => {}
            }
        } else {
            self.ended = true;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        // Of what was read ahead, nothing is in the hint of the body.
        match &self.next {
            None => self.body.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}

/// A body that is in memory. Its length is a header of HTTP, and none of gRPC, which has it in front of the message.
pub fn body_in_memory<B>(method: &Method, body: B) -> Body
where
    B: http_body::Body<Data = Bytes, Error = Status> + Send + Unpin + 'static,
{
    if method.protocol == Protocol::Http { Body::new(body) } else { Body::new(Unsized(body)) }
}

/// A body that does not tell its length: the client would add `content-length` to each call.
struct Unsized<B>(B);

impl<B> http_body::Body for Unsized<B>
where
    B: http_body::Body<Data = Bytes, Error = Status> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
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

/// The status in a head or in trailers, if there is one. OK is recognised by its code alone: tonic copies all headers
/// to read a status.
pub fn status_of(headers: &HeaderMap) -> Option<Status> {
    match headers.get(Status::GRPC_STATUS)?.as_bytes() {
        b"0" => Some(Status::ok("")),
        _ => Status::from_header_map(headers),
    }
}

/// The failure in a head or in trailers, if there is one.
pub fn failure_of(headers: &HeaderMap) -> Option<Status> {
    // Without a status in between: each layer asks, and most calls succeed.
    headers.get(Status::GRPC_STATUS).filter(|code| code.as_bytes() != b"0")?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt as _, stream};
    use http_body_util::{BodyExt as _, Full, StreamBody};

    fn data(text: &'static str) -> Result<Frame<Bytes>, Status> {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    /// The frames that pass, each with whether the body says that it is the last.
    async fn passed(
        frames: impl futures_util::Stream<Item = Result<Frame<Bytes>, Status>> + Send + 'static,
    ) -> Vec<(String, bool)> {
        let mut body = PassedThrough::of(Body::new(StreamBody::new(Box::pin(frames))));
        let mut passed = Vec::new();
        while let Some(frame) = body.frame().await {
            let text = frame.map(|frame| frame.into_data().map(|data| String::from_utf8_lossy(&data).into_owned()));
            passed.push((
                text.unwrap_or_else(|status| Ok(status.message().to_owned())).unwrap_or_default(),
                body.is_end_stream(),
            ));
        }
        passed
    }

    #[test]
    fn length_of_a_body_in_memory_is_known_of_http_alone() {
        let length = |method: &Method| {
            let body = Full::new(Bytes::from_static(b"message")).map_err(|never| match never {});
            body_in_memory(method, body).size_hint().exact()
        };
        let http = Method { protocol: Protocol::Http, ..*Method::unknown() };
        assert_eq!((length(&http), length(Method::unknown())), (Some(7), None));
    }

    #[tokio::test]
    async fn empty_frames_and_trailers_of_a_request_are_not_passed_on() {
        let mut trailers = HeaderMap::new();
        trailers.insert("mesh-caller", http::HeaderValue::from_static("forged"));
        let frames = [data(""), data("a"), data(""), data("b"), data(""), Ok(Frame::trailers(trailers))];
        assert_eq!(passed(stream::iter(frames)).await, [("a".to_owned(), false), ("b".to_owned(), true)]);
    }

    #[tokio::test]
    async fn frame_of_a_request_does_not_wait_for_the_next_one() {
        let slow = stream::iter([data("a")]).chain(stream::once(async {
            tokio::task::yield_now().await;
            Err(Status::internal("broken"))
        }));
        assert_eq!(passed(slow).await, [("a".to_owned(), false), ("broken".to_owned(), true)]);
    }
}

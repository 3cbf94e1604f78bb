//! The trait of the server's layers, and the response body that all of them share.
//!
//! A layer answers a call by the layer within it. The layers compile into one future, which is boxed once for each
//! call. So is the response body: what a layer does to a stream after its head, it does within [`Answered`].

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{self, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body as _, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::permits::Permit;
use super::request::Arrived;
use crate::call::body::trailers;
use crate::call::{Context, Handler, Method};

/// A layer around the services, or the services.
pub(super) trait Answer: Send + Sync + 'static {
    /// Answers a call. Dropping the future cancels the work.
    fn answer(&self, call: Arrived) -> impl Future<Output = Response<Answered>> + Send;
}

/// The services, within all layers.
pub(super) struct Services(pub(super) Handler);

impl Answer for Services {
    async fn answer(&self, call: Arrived) -> Response<Answered> {
        let method = call.method;
        (self.0)(call.map_body(Body::new)).await.map(|body| Answered::of(body, method))
    }
}

/// The layers as one handler.
#[cfg(test)]
pub(super) fn boxed(layers: impl Answer) -> Handler {
    let layers = std::sync::Arc::new(layers);
    crate::call::handler(move |call: crate::call::Call| {
        let layers = std::sync::Arc::clone(&layers);
        async move { layers.answer(super::request::arrived(call)).await.map(Body::new) }
    })
}

/// The response body of a served call.
#[derive(Default)]
pub(super) struct Answered {
    /// `None` after an early end, and without a message.
    body: Option<Body>,
    /// Held until the end of the body.
    permit: Option<Permit>,
    /// `None` for a unary call, which has its failure in the head.
    stream: Option<Box<Stream>>,
}

/// An event that ends a stream early, with its status.
type End = Pin<Box<dyn Future<Output = Status> + Send>>;

/// The trailers for a panic.
type OfPanic = fn(&(dyn Any + Send)) -> HeaderMap;
/// The trailers that a layer makes of those within it.
type OfTrailers = fn(HeaderMap, &Method) -> HeaderMap;

/// What the layers do to a stream.
struct Stream {
    method: &'static Method,
    context: Option<Context>,
    panicked: Option<OfPanic>,
    ends: [Option<End>; 3],
    /// The status of an early end whose last frame was sent.
    ended: Option<Status>,
    trailers: [Option<OfTrailers>; 2],
}

impl Answered {
    fn of(body: Body, method: &'static Method) -> Self {
        let stream = method.server_streaming.then(|| Box::new(Stream::of(method)));
        Self { body: Some(body), permit: None, stream }
    }

    /// Holds a permit until the end of the body.
    pub(super) fn hold(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    /// Replaces the body within.
    pub(super) fn map(&mut self, map: impl FnOnce(Body) -> Body) {
        self.body = self.body.take().map(map);
    }

    /// Polls a stream in this context.
    pub(super) fn scope(&mut self, context: Context) {
        if let Some(stream) = &mut self.stream {
            stream.context = Some(context);
        }
    }

    /// Ends a stream that panics with these trailers.
    pub(super) fn on_panic(&mut self, trailers: OfPanic) {
        if let Some(stream) = &mut self.stream {
            stream.panicked = Some(trailers);
        }
    }

    /// Changes the trailers of a stream. A change that is added later is made later.
    pub(super) fn map_trailers(&mut self, map: OfTrailers) {
        if let Some(stream) = &mut self.stream {
            let last = stream.trailers[1].take();
            stream.trailers = [last, Some(map)];
        }
    }

    /// Ends a stream with the status of `end`, if `end` resolves before the stream ends. A frame that is ready then is
    /// sent first: a watcher of health learns of the drain that ends its stream. An end that is added later is asked
    /// first.
    pub(super) fn end_with<E: Future<Output = Status> + Send + 'static>(&mut self, end: impl FnOnce() -> E) {
        if let Some(stream) = &mut self.stream {
            let [first, second, _] = std::mem::take(&mut stream.ends);
            stream.ends = [Some(Box::pin(end())), first, second];
        }
    }
}

impl Stream {
    fn of(method: &'static Method) -> Self {
        Self { method, context: None, panicked: None, ends: [None, None, None], ended: None, trailers: [None, None] }
    }

    /// Polled before the body: a body that is always ready would never end otherwise.
    fn poll_end(&mut self, cx: &mut task::Context<'_>) -> Poll<Status> {
        let ended = self.ends.iter_mut().flatten().map(|end| end.as_mut().poll(cx));
        ended.into_iter().find(Poll::is_ready).unwrap_or(Poll::Pending)
    }

    /// The next frame within, or the trailers of an early end.
    fn poll_next(&mut self, body: &mut Body, cx: &mut task::Context<'_>) -> Polled {
        let end = match self.ended.take() {
            Some(status) => return last(&status),
            None => self.poll_end(cx),
        };
        match (self.poll_body(body, cx), end) {
            (Poll::Pending, Poll::Ready(status)) => last(&status),
            (polled, Poll::Ready(status)) => {
                self.ended = Some(status);
                polled
            }
            (polled, Poll::Pending) => polled,
        }
    }

    fn poll_body(&mut self, body: &mut Body, cx: &mut task::Context<'_>) -> Polled {
        let mut poll = || Pin::new(&mut *body).poll_frame(cx);
        let caught = || match self.panicked {
            Some(trailers) => catch_unwind(AssertUnwindSafe(poll))
                .unwrap_or_else(|panic| Poll::Ready(Some(Ok(Frame::trailers(trailers(panic.as_ref())))))),
            None => poll(),
        };
        match &self.context {
            Some(context) => context.clone().enter(caught),
            None => caught(),
        }
    }

    /// The trailers that the caller receives.
    fn trailers(&self, given: HeaderMap) -> Frame<Bytes> {
        let maps = self.trailers.iter().flatten();
        Frame::trailers(maps.fold(given, |trailers, map| map(trailers, self.method)))
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, Status>>>;

fn last(status: &Status) -> Polled {
    Poll::Ready(Some(Ok(Frame::trailers(trailers(status)))))
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Polled {
        let Self { body, stream, .. } = &mut *self;
        let Some(open) = body else { return Poll::Ready(None) };
        let Some(stream) = stream else { return Pin::new(open).poll_frame(cx) };
        match stream.poll_next(open, cx) {
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => {
                // Dropping the body cancels the handler.
                *body = None;
                let given = frame.into_trailers().unwrap_or_default();
                Poll::Ready(Some(Ok(stream.trailers(given))))
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

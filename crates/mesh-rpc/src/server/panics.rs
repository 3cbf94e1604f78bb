//! A handler that panics fails its call, with INTERNAL, and nothing else.
//!
//! A peer in the same process is called within its caller's own task. Were a panic not caught here, for the head of an
//! answer and for every message of a stream, it would be the caller's.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use crate::call::body::trailers;
use crate::call::error::internal;
use crate::call::{Handler, handler};

/// Answers for a handler that panics.
pub(super) fn catch(next: Handler) -> Handler {
    handler(move |call| {
        let streaming = call.method.server_streaming;
        // A handler that has panicked is never called again: there is nothing to find in an odd state.
        let answering = AssertUnwindSafe(next(call)).catch_unwind();
        async move {
            match answering.await {
                Ok(response) if streaming => response.map(|body| Body::new(Caught(Some(body)))),
                Ok(response) => response,
                Err(panic) => panicked(panic.as_ref()).into_http(),
            }
        }
    })
}

fn panicked(panic: &(dyn Any + Send)) -> Status {
    let said = panic.downcast_ref::<&str>().copied();
    let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
    internal(Arc::new(std::io::Error::other(format!("a handler panicked: {said}"))))
}

/// What a handler streams; `None` once it has panicked.
struct Caught(Option<Body>);

impl http_body::Body for Caught {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = self.0.as_mut() else { return Poll::Ready(None) };
        catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx))).unwrap_or_else(|panic| {
            self.0 = None;
            let status = panicked(panic.as_ref());
            // Trailers have no room for it.
            let cause = std::error::Error::source(&status);
            tracing::error!(cause, "a stream ended");
            Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map(|body| body.size_hint()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Call;
    use crate::call::tests::WATCH;
    use futures_util::{StreamExt as _, stream};
    use http::Response;
    use http_body_util::{BodyExt as _, StreamBody};
    use tonic::Code;

    #[tokio::test]
    async fn a_stream_that_panics_ends_with_internal_and_keeps_what_it_gave() {
        let panics = handler(|_| async {
            let frames = stream::iter([1, 2]).map(|number| match number {
                1 => Ok::<_, Status>(Frame::data(Bytes::from_static(b"one"))),
                _ => panic!("on purpose"),
            });
            Response::new(Body::new(StreamBody::new(frames)))
        });
        let collected = catch(panics)(Call::to(WATCH, Body::empty())).await.into_body().collect().await.unwrap();
        let status = Status::from_header_map(collected.trailers().unwrap()).unwrap();
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("purpose"), "{status}");
        assert_eq!(collected.to_bytes(), "one");
    }
}

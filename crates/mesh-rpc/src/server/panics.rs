//! The layer that turns a panic of a handler into INTERNAL.
//!
//! Guarantees: a panic fails its own call only. A peer in the same process runs in its caller's task, where an uncaught
//! panic would end the caller too.
//!
//! See: decision 0003.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use crate::call::body::trailers;
use crate::call::error::internal;
use crate::call::{Handler, handler};

/// Catches panics of the handler and of its response body.
pub(super) fn catch(next: Handler) -> Handler {
    handler(move |call| {
        let streaming = call.method.server_streaming;
        // The handler is not called again after a panic: no inconsistent state is visible.
        let answering = AssertUnwindSafe(next(call)).catch_unwind();
        async move {
            match answering.await {
                Ok(response) if streaming => response.map(|body| Body::new(CatchPanicBody(Some(body)))),
                Ok(response) => response,
                Err(panic) => panicked(panic.as_ref()).into_http(),
            }
        }
    })
}

fn panicked(panic: &(dyn Any + Send)) -> Status {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
    internal(Arc::new(std::io::Error::other(format!("a handler panicked: {message}"))))
}

/// A body that catches panics; `None` after a panic.
struct CatchPanicBody(Option<Body>);

impl http_body::Body for CatchPanicBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = self.0.as_mut() else { return Poll::Ready(None) };
        catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx))).unwrap_or_else(|panic| {
            self.0 = None;
            let status = panicked(panic.as_ref());
            // Trailers carry no cause: the layer logs it.
            let cause = std::error::Error::source(&status);
            tracing::error!(cause, "a stream ended with a panic");
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
    async fn panic_of_a_stream_ends_it_with_internal() {
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

//! The layer that turns a panic of a handler into INTERNAL.
//!
//! Guarantees: a panic fails its own call only. A peer in the same process runs in its caller's task, where an uncaught
//! panic would end the caller too.
//!
//! See: decision 0003.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use http::{HeaderMap, Response};
use tonic::Status;

use super::answer::{Answer, Answered};
use super::request::Arrived;
use crate::call::body::trailers;
use crate::call::error::internal;

/// Catches panics of the handler and of its response body.
pub(super) struct Panics<N>(pub(super) N);

impl<N: Answer> Answer for Panics<N> {
    async fn answer(&self, call: Arrived) -> Response<Answered> {
        // The handler is not called again after a panic: no inconsistent state is visible.
        match AssertUnwindSafe(self.0.answer(call)).catch_unwind().await {
            Ok(mut response) => {
                response.body_mut().on_panic(of_a_stream);
                response
            }
            Err(panic) => panicked(panic.as_ref()).into_http(),
        }
    }
}

/// The trailers of a stream that panicked.
fn of_a_stream(panic: &(dyn Any + Send)) -> HeaderMap {
    let status = panicked(panic);
    // Trailers carry no cause: the layer logs it.
    let cause = std::error::Error::source(&status);
    tracing::error!(cause, "a stream ended with a panic");
    trailers(&status)
}

fn panicked(panic: &(dyn Any + Send)) -> Status {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
    internal(Arc::new(std::io::Error::other(format!("a handler panicked: {message}"))))
}

#[cfg(test)]
mod tests {
    use super::super::answer::{Services, boxed};
    use super::*;
    use crate::call::Call;
    use crate::call::handler;
    use crate::call::tests::WATCH;
    use bytes::Bytes;
    use futures_util::{StreamExt as _, stream};
    use http_body::Frame;
    use http_body_util::{BodyExt as _, StreamBody};
    use tonic::Code;
    use tonic::body::Body;

    #[tokio::test]
    async fn panic_of_a_stream_ends_it_with_internal() {
        let panics = handler(|_| async {
            let frames = stream::iter([1, 2]).map(|number| match number {
                1 => Ok::<_, Status>(Frame::data(Bytes::from_static(b"one"))),
                _ => panic!("on purpose"),
            });
            Response::new(Body::new(StreamBody::new(frames)))
        });
        let collected =
            boxed(Panics(Services(panics)))(Call::to(WATCH, Body::empty())).await.into_body().collect().await.unwrap();
        let status = Status::from_header_map(collected.trailers().unwrap()).unwrap();
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("purpose"), "{status}");
        assert_eq!(collected.to_bytes(), "one");
    }
}

//! The layer that enforces the caller's deadline.
//!
//! `grpc-timeout` becomes a point in time in the call's [`Context`], and calls to peers derive their deadlines from it.
//!
//! Guarantees:
//! - An expired call answers DEADLINE_EXCEEDED. Its handler is dropped, including a running database statement.
//! - A stream ends at its deadline too. tonic's own timeout covers the response head only.

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::call::body::take_until;
use crate::call::error::exceeded;
use crate::call::{Context, Trace, read_timeout, read_trace_state};
use crate::call::{Handler, handler};

/// Enforces the deadline of every call, and sets the call's [`Context`].
pub(super) fn enforce(next: Handler) -> Handler {
    handler(move |call| {
        let timeout = read_timeout(call.request.headers());
        let trace = call.request.extensions().get().copied().unwrap_or_else(Trace::begin);
        let trace_state = read_trace_state(call.request.headers());
        let streaming = call.method.server_streaming;
        let next = next.clone();
        async move {
            let deadline = match timeout {
                Ok(timeout) => timeout.map(|timeout| Instant::now() + timeout),
                Err(status) => return status.into_http(),
            };
            let context = Context { deadline, trace, trace_state, caller: Context::caller() };
            let answering = context.clone().scope(next(call));
            let answered = match deadline {
                Some(deadline) => timeout_at(deadline, answering).await,
                None => Ok(answering.await),
            };
            let response = match answered {
                // The one message is complete: the deadline has no effect any more.
                Ok(response) if !streaming => return response,
                Ok(response) => response.map(|body| context.scope_body(body)),
                Err(_) => return exceeded().into_http(),
            };
            match deadline {
                Some(deadline) => response.map(|body| {
                    take_until(body, async move {
                        sleep_until(deadline).await;
                        exceeded()
                    })
                }),
                None => response,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Call;
    use crate::call::tests::WATCH;
    use http::Response;
    use http_body_util::BodyExt as _;
    use std::time::Duration;
    use tonic::body::Body;
    use tonic::{Code, Status};

    fn request(timeout: &str) -> Call {
        let mut call = Call::to(WATCH, Body::empty());
        call.request.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
        call
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_drops_the_handler() {
        struct Dropped(tokio::sync::mpsc::UnboundedSender<()>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let (sender, mut dropped) = tokio::sync::mpsc::unbounded_channel();
        let enforced = enforce(handler(move |_| {
            let guard = Dropped(sender.clone());
            async move {
                let _guard = guard;
                std::future::pending().await
            }
        }));
        let start = Instant::now();
        let response = enforced(request("250m")).await;
        assert_eq!(start.elapsed(), Duration::from_millis(250));
        assert_eq!(Status::from_header_map(response.headers()).unwrap().code(), Code::DeadlineExceeded);
        assert!(dropped.try_recv().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_ends_a_stream() {
        let enforced = enforce(handler(|_| async { Response::new(Body::new(Silent)) }));
        let start = Instant::now();
        let response = enforced(request("3S")).await;
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        let status = Status::from_header_map(collected.trailers().unwrap()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_is_visible_to_the_handler() {
        let enforced = enforce(handler(|_| async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(Context::current().remaining(), Some(Duration::from_millis(700)));
            Response::new(Body::empty())
        }));
        enforced(request("1S")).await;
    }

    /// The body of a stream without messages.
    struct Silent;
    impl http_body::Body for Silent {
        type Data = bytes::Bytes;
        type Error = Status;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Status>>> {
            std::task::Poll::Pending
        }
    }
}

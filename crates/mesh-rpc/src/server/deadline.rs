//! Where a deadline is enforced: a call stops when the time its caller gave it is over, and answers DEADLINE_EXCEEDED.
//!
//! The caller says how long it waits in `grpc-timeout`; from here on that is a point in time, kept in the call's
//! [`Context`], from which calls to peers take what is left. Dropping the handler's future is what stops its work, down
//! to the statement it has at the database. A stream is ended, too: tonic's own timeout covers its head only.

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::call::body::take_until;
use crate::call::error::exceeded;
use crate::call::{Context, Trace, read_timeout, read_trace_state};
use crate::call::{Handler, handler};

/// Enforces the deadline of every call that comes through, and tells the handler of it.
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
                // Its one message is made already: nothing of it is left to do, or to stop.
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
    async fn a_handler_that_takes_too_long_is_dropped_and_answered_for() {
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
    async fn a_stream_is_ended_at_its_deadline() {
        let enforced = enforce(handler(|_| async { Response::new(Body::new(Silent)) }));
        let start = Instant::now();
        let response = enforced(request("3S")).await;
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        let status = Status::from_header_map(collected.trailers().unwrap()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }

    #[tokio::test(start_paused = true)]
    async fn the_handler_sees_what_is_left() {
        let enforced = enforce(handler(|_| async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(Context::current().remaining(), Some(Duration::from_millis(700)));
            Response::new(Body::empty())
        }));
        enforced(request("1S")).await;
    }

    /// The body of a stream that never says anything.
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

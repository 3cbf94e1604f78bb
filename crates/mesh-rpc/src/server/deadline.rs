//! The layer that enforces the caller's deadline.
//!
//! `grpc-timeout` becomes a point in time in the call's [`Context`], and calls to peers derive their deadlines from it.
//!
//! Guarantees:
//! - An expired call answers DEADLINE_EXCEEDED. Its handler is dropped, including a running database statement.
//! - A call whose deadline has passed when it arrives starts no handler.
//! - A unary call from the network without a deadline ends after `limits.unary_deadline`. Its context has none.
//! - A stream ends at its deadline too. tonic's own timeout covers the response head only.

use std::pin::pin;
use std::time::Duration;

use http::Response;
use tokio::time::{Instant, sleep_until};

use super::answer::{Answer, Answered};
use super::head_limit;
use super::request::Arrived;
use crate::call::error::exceeded;
use crate::call::{read_timeout, within};

/// Enforces the deadline of every call, within the [`Context`](crate::call::Context) of the call.
pub(super) struct Deadlines<N> {
    pub(super) next: N,
    pub(super) unary_deadline: Duration,
}

impl<N: Answer> Answer for Deadlines<N> {
    async fn answer(&self, mut call: Arrived) -> Response<Answered> {
        let head = head_limit::check(call.request.uri(), call.request.headers());
        let own = match head.and_then(|()| read_timeout(call.request.headers())) {
            Ok(own) => own,
            Err(status) => return status.into_http(),
        };
        let default = (call.connection.is_some() && !call.method.waits).then_some(self.unary_deadline);
        let deadline = own.or(default).map(|timeout| call.arrived + timeout);
        // The handler would be polled first.
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return exceeded().into_http();
        }
        // A call to a peer inherits the caller's own deadline only, and has a default of its own without one.
        call.context.deadline = own.and(deadline);
        let (context, streaming) = (call.context.clone(), call.method.server_streaming);
        // Pinned here: each function that takes a future holds it twice.
        let answering = pin!(context.clone().scope(self.next.answer(call)));
        let Some(mut response) = within(deadline, answering).await else { return exceeded().into_http() };
        if streaming {
            response.body_mut().scope(context);
            if let Some(deadline) = deadline {
                response.body_mut().end_with(|| async move {
                    sleep_until(deadline).await;
                    exceeded()
                });
            }
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::{Services, boxed};
    use super::*;
    use crate::call::Call;
    use crate::call::tests::{GET, WATCH};
    use crate::call::{Connection, Context, Handler, handler};
    use http_body_util::BodyExt as _;
    use tonic::body::Body;
    use tonic::{Code, Status};

    fn enforced_by(next: Handler) -> Handler {
        boxed(Deadlines { next: Services(next), unary_deadline: UNARY })
    }

    /// The deadline of a unary call without one.
    const UNARY: Duration = Duration::from_secs(9);

    fn from_network(path: &str) -> Call {
        let mut call = Call::to(path, Body::empty());
        call.connection = Some(Connection::default());
        call
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_of_a_unary_call_from_the_network_has_a_default() {
        let endless = enforced_by(handler(|_| async {
            assert_eq!(Context::current().remaining(), None, "calls to peers have their own default");
            std::future::pending().await
        }));
        let start = Instant::now();
        let response = endless(from_network(GET)).await;
        assert_eq!(start.elapsed(), UNARY);
        assert_eq!(Status::from_header_map(response.headers()).unwrap().code(), Code::DeadlineExceeded);

        let without = enforced_by(handler(|_| async {
            assert_eq!(Context::current().remaining(), None);
            Response::new(Body::empty())
        }));
        without(from_network(WATCH)).await;
        without(Call::to(GET, Body::empty())).await;
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_that_has_passed_starts_no_handler() {
        let enforced = enforced_by(handler(|_| async { panic!("the handler started") }));
        for timeout in ["0n", "0H"] {
            let response = enforced(request(timeout)).await;
            assert_eq!(Status::from_header_map(response.headers()).unwrap().code(), Code::DeadlineExceeded);
        }
        let late = enforced(request("5m"));
        tokio::time::advance(Duration::from_millis(6)).await;
        assert_eq!(Status::from_header_map(late.await.headers()).unwrap().code(), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn deadline_layer_refuses_large_headers() {
        let enforced = enforced_by(handler(|_| async { Response::new(Body::empty()) }));
        for (bytes, refused) in [(15 << 10, false), (17 << 10, true)] {
            let mut call = Call::to(GET, Body::empty());
            call.request.headers_mut().insert("x-long", "a".repeat(bytes).parse().unwrap());
            let status = Status::from_header_map(enforced(call).await.headers());
            assert_eq!(status.map(|status| status.code()), refused.then_some(Code::ResourceExhausted));
        }
    }

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
        let enforced = enforced_by(handler(move |_| {
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
        let enforced = enforced_by(handler(|_| async { Response::new(Body::new(Silent)) }));
        let start = Instant::now();
        let response = enforced(request("3S")).await;
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        let status = Status::from_header_map(collected.trailers().unwrap()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_is_visible_to_the_handler() {
        let enforced = enforced_by(handler(|_| async {
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

//! Load shedding: the server refuses calls that it cannot start in time.
//!
//! A call from the network holds a concurrency permit while its handler works. Streams and `WaitOperation` have permits
//! of their own.
//!
//! Guarantees:
//! - A refused call answers RESOURCE_EXHAUSTED, `OVERLOADED`, with a `RetryInfo`.
//! - A slow sender and a slow reader hold no permit (INV-13).
//! - `Health/Check` and `Health/List` are never refused. A busy instance that failed its health check would shift its
//!   load to the others. Streams of health and reflection hold a stream's permit.
//! - Calls in memory need no permit. They are part of a call or of work that is bounded already, and could deadlock on
//!   permits.
//!
//! See: decision 0004.

use std::sync::{Arc, OnceLock};

use http::Response;

use super::answer::{Answer, Answered};
use super::health_service;
use super::permit::{Admission, refused};
use super::permits::Permits;
use super::request::{Arrived, Arriving};
use super::settings::Limits;
use crate::call::Call;
use crate::telemetry::Metrics;

/// Refuses calls from the network without a permit.
pub(super) struct Shed<N> {
    next: N,
    calls: Arc<Permits>,
    streams: Arc<Permits>,
    metrics: Arc<Metrics>,
}

impl<N> Shed<N> {
    pub(super) fn around(next: N, limits: Limits, metrics: Metrics) -> Self {
        let (calls, streams) = (Permits::new(limits.in_flight), Permits::new(limits.streams));
        Self { next, calls, streams, metrics: Arc::new(metrics) }
    }
}

impl<N: Answer> Answer for Shed<N> {
    async fn answer(&self, mut call: Arrived) -> Response<Answered> {
        let method = call.method;
        if !needs_permit(&call) {
            return self.next.answer(call).await;
        }
        if method.waits {
            let Some(permit) = self.streams.try_take() else {
                return refused(method, &self.metrics).into_http();
            };
            let mut response = self.next.answer(call).await;
            response.body_mut().hold(permit);
            return response;
        }
        let permit = Arc::new(OnceLock::new());
        let (calls, metrics) = (Arc::clone(&self.calls), Arc::clone(&self.metrics));
        call.request.body_mut().admit(Admission::new(calls, Arc::clone(&permit), method, metrics));
        let response = self.next.answer(call).await;
        // The permit is released with the response.
        drop(permit);
        response
    }
}

fn needs_permit(call: &Call<Arriving>) -> bool {
    let checks_health = call.method.service == health_service::NAME && !call.method.waits;
    call.connection.is_some() && !checks_health
}

#[cfg(test)]
mod tests {
    use super::super::answer::{Services, boxed};
    use super::super::permit::PERMIT_WAIT;
    use super::*;
    use crate::call::error::DOMAIN;
    use crate::call::{Connection, Context, Handler, handler};
    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::BodyExt as _;
    use http_body_util::Full;
    use std::time::Duration;
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;
    use tonic::body::Body;
    use tonic::{Code, Status};
    use tonic_types::StatusExt as _;

    const CALL: &str = "/google.longrunning.Operations/GetOperation";
    const STREAM: &str = "/mesh.operations.v1.OperationEventsService/Watch";
    const WAIT_OPERATION: &str = "/google.longrunning.Operations/WaitOperation";
    const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
    const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    const LIST: &str = "/grpc.health.v1.Health/List";

    /// A server with one permit of each kind. Its handler reads the request and waits for `finish`.
    struct Server {
        shed: Handler,
        metrics: Metrics,
        go: Arc<Notify>,
    }

    fn server() -> Server {
        let go = Arc::new(Notify::new());
        let waits = Arc::clone(&go);
        let work = handler(move |call| {
            let go = Arc::clone(&waits);
            async move {
                if let Err(status) = call.request.into_body().collect().await {
                    return status.into_http();
                }
                go.notified().await;
                Response::new(Body::new(Full::new(Bytes::from_static(b"answer")).map_err(|never| match never {})))
            }
        });
        let (limits, metrics) = (Limits { in_flight: 1, streams: 1, ..Limits::default() }, Metrics::new());
        Server { shed: boxed(Shed::around(Services(work), limits, metrics.clone())), metrics, go }
    }

    fn request(path: &str, body: Body) -> Call {
        let mut call = Call::to(path, body);
        call.connection = Some(Connection::default());
        call
    }

    impl Server {
        /// Starts a call from the network.
        async fn call(&self, path: &str) -> JoinHandle<Response<Body>> {
            let call = tokio::spawn((self.shed)(request(path, message())));
            tokio::task::yield_now().await;
            call
        }

        fn finish(&self) {
            self.go.notify_one();
        }
    }

    fn message() -> Body {
        Body::new(Full::new(Bytes::from_static(b"request")))
    }

    fn status(response: &Response<Body>) -> Option<Status> {
        Status::from_header_map(response.headers())
    }

    #[tokio::test(start_paused = true)]
    async fn shed_refuses_a_call_without_a_permit() {
        let server = server();
        let first = server.call(CALL).await;
        let start = Instant::now();
        let refused = status(&server.call(CALL).await.await.unwrap()).unwrap();
        assert_eq!(start.elapsed(), PERMIT_WAIT);
        assert_eq!(refused.code(), Code::ResourceExhausted);
        let details = refused.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("OVERLOADED", DOMAIN));
        assert!(details.retry_info().unwrap().retry_delay.unwrap() >= Duration::from_millis(200));
        assert!(server.metrics.render(crate::telemetry::Exposition::Text).contains(
            r#"grpc_server_shed_total{grpc_service="google.longrunning.Operations",grpc_method="GetOperation"} 1"#
        ));

        server.finish();
        assert!(status(&first.await.unwrap()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn shed_serves_a_call_that_gets_a_permit_in_time() {
        let server = server();
        let (first, second) = (server.call(CALL).await, server.call(CALL).await);
        for call in [first, second] {
            server.finish();
            assert!(status(&call.await.unwrap()).is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn shed_waits_a_fraction_of_the_remaining_time() {
        let server = server();
        let _first = server.call(CALL).await;
        let deadline = Some(Instant::now() + Duration::from_millis(40));
        let context = Context { deadline, ..Default::default() };
        let start = Instant::now();
        assert!(status(&context.scope((server.shed)(request(CALL, message()))).await).is_some());
        assert_eq!(start.elapsed(), Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn shed_releases_the_permit_of_a_cancelled_call() {
        let server = server();
        let first = server.call(CALL).await;
        first.abort();
        let second = server.call(CALL).await;
        server.finish();
        assert!(status(&second.await.unwrap()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn shed_gives_slow_clients_no_permit() {
        let server = server();
        let silent = futures_util::stream::pending::<Result<Frame<Bytes>, Status>>();
        let silent = Body::new(http_body_util::StreamBody::new(silent));
        let _half = tokio::spawn((server.shed)(request(CALL, silent)));

        let answered = server.call(CALL).await;
        server.finish();
        let unread = answered.await.unwrap();
        let next = server.call(CALL).await;
        server.finish();
        assert!(status(&next.await.unwrap()).is_none());
        drop(unread);
    }

    #[tokio::test(start_paused = true)]
    async fn shed_has_separate_permits_for_streams() {
        let server = server();
        let stream = server.call(STREAM).await;
        let call = server.call(CALL).await;
        let start = Instant::now();
        for path in [STREAM, WAIT_OPERATION, HEALTH_WATCH, REFLECTION] {
            assert!(status(&server.call(path).await.await.unwrap()).is_some(), "{path}");
        }
        assert_eq!(start.elapsed(), Duration::ZERO, "a stream does not wait for a permit");

        // A stream holds its permit until it ends.
        server.finish();
        let answer = stream.await.unwrap();
        assert!(status(&server.call(STREAM).await.await.unwrap()).is_some());
        drop(answer);
        assert!(!server.call(WAIT_OPERATION).await.is_finished(), "the handler is running");
        assert!(!call.is_finished(), "the handler is running");
    }

    #[tokio::test(start_paused = true)]
    async fn shed_ignores_health_checks_and_calls_in_memory() {
        let server = server();
        let _first = server.call(CALL).await;
        let in_memory = tokio::spawn((server.shed)(Call::to(CALL, message())));
        let (check, list) = (server.call(CHECK).await, server.call(LIST).await);
        tokio::time::sleep(PERMIT_WAIT * 2).await;
        for call in [in_memory, check, list] {
            assert!(!call.is_finished(), "the handler is running");
            call.abort();
        }
    }
}

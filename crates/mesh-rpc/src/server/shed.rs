//! Refuses what could not be started in time: a server that takes on more than it can do ends up doing nothing, for by
//! the time that a call's turn has come its caller has gone.
//!
//! There are so many places, and a call has one while it is worked on: from when its request has arrived, so that nobody
//! holds a place by sending slowly, until its answer is there, so that nobody holds one by reading slowly. If all are
//! taken, it waits a moment, for calls come in bursts; then it is told OVERLOADED, and when to come back. That costs
//! next to nothing, so those who have a place are served as fast as ever.
//!
//! What waits most of its life has places of another kind. A stream, or somebody in WaitOperation, does no work that a
//! call would have to wait for, and a thousand watchers must not be the end of all calls; but each costs memory, so they
//! are bounded as well, and refused at once: nobody's stream ends within a moment.
//!
//! Only calls from the network need a place. What a service asks of another one in this process is part of a call that has
//! one, or of long work, which is bounded by its workers: if it needed its own, calls with a place would wait for places
//! that only they could give back.
//!
//! Health and reflection are never refused. An instance that is taken for dead because it is busy leaves its load to the
//! others, and they are next.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;

use super::connection::Connection;
use super::settings::Limits;
use crate::call::error::overloaded;
use crate::call::{Call, Context as CallContext, Handler, Method, handler};
use crate::telemetry::Metrics;

/// How long a call waits for a place. Longer than a burst, shorter than anybody's patience.
const WAIT: Duration = Duration::from_millis(50);
/// And no more than this part of the time it has left: it wants to be worked on, too.
const OF_DEADLINE: u32 = 4;

/// Refuses what comes over the network when there is no place for it.
pub(super) fn shed(next: Handler, limits: Limits, metrics: Metrics) -> Handler {
    let calls = Arc::new(Semaphore::new(limits.in_flight));
    let streams = Arc::new(Semaphore::new(limits.streams));
    let metrics = Arc::new(metrics);
    handler(move |call| {
        let (next, metrics) = (next.clone(), Arc::clone(&metrics));
        let (calls, streams) = (Arc::clone(&calls), Arc::clone(&streams));
        async move {
            let method = call.method;
            if !needs_a_place(&call) {
                return next(call).await;
            }
            if method.waits() {
                let Ok(place) = streams.try_acquire_owned() else {
                    return refused(method, &metrics).into_http();
                };
                // Until the stream ends: what looks at its frames is dropped with it.
                let placed = move |frame| {
                    let _ = &place;
                    frame
                };
                return next(call).await.map(|body| Body::new(body.map_frame(placed)));
            }
            let place = Arc::new(OnceLock::new());
            let arrival = Arrival::Awaited;
            let gate = |body| Body::new(Gate { body, calls, place: Arc::clone(&place), method, metrics, arrival });
            let response = next(call.map_body(gate)).await;
            // Until here.
            drop(place);
            response
        }
    })
}

fn needs_a_place(call: &Call) -> bool {
    call.request.extensions().get::<Connection>().is_some() && !call.method.service.starts_with("grpc.")
}

/// RESOURCE_EXHAUSTED, reason `OVERLOADED`. Who was refused together is not to come back together.
fn refused(method: &'static Method, metrics: &Metrics) -> Status {
    metrics.shed(method);
    let delay = Duration::from_millis(fastrand::u64(200..600));
    overloaded("this instance has more to do than it can do in time", delay)
}

/// A request of which the end is handed on when there is a place for the call. A handler begins when it has read the
/// end; what is refused before, as no message of the contract, needs no place.
struct Gate {
    body: Body,
    calls: Arc<Semaphore>,
    /// Where the place is kept for as long as the call has it.
    place: Arc<OnceLock<OwnedSemaphorePermit>>,
    method: &'static Method,
    metrics: Arc<Metrics>,
    arrival: Arrival,
}

type Waiting = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>;

enum Arrival {
    Awaited,
    /// The request is here, with the trailers that it ended with.
    Waiting(Waiting, Option<Frame<Bytes>>),
    Over,
}

impl http_body::Body for Gate {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            let this = &mut *self;
            match &mut this.arrival {
                Arrival::Awaited => {
                    let last = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                        Some(Ok(trailers)) if trailers.is_trailers() => Some(trailers),
                        Some(frame) => return Poll::Ready(Some(frame)),
                        None => None,
                    };
                    this.arrival = Arrival::Waiting(Box::pin(place(Arc::clone(&this.calls))), last);
                }
                Arrival::Waiting(waiting, last) => {
                    let place = ready!(waiting.as_mut().poll(cx));
                    let last = last.take();
                    this.arrival = Arrival::Over;
                    let Some(place) = place else {
                        return Poll::Ready(Some(Err(refused(this.method, &this.metrics))));
                    };
                    // Empty until now: a request arrives once.
                    let _ = this.place.set(place);
                    return Poll::Ready(last.map(Ok));
                }
                Arrival::Over => return Poll::Ready(None),
            }
        }
    }

    /// Never before there is a place, or somebody would do without.
    fn is_end_stream(&self) -> bool {
        matches!(self.arrival, Arrival::Over)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A place, if there is one in time.
async fn place(calls: Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    let remaining = CallContext::current().remaining();
    let wait = remaining.map_or(WAIT, |remaining| WAIT.min(remaining / OF_DEADLINE));
    timeout(wait, calls.acquire_owned()).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::error::DOMAIN;
    use http::Response;
    use http_body_util::Full;
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;
    use tonic::Code;
    use tonic_types::StatusExt as _;

    const CALL: &str = "/google.longrunning.Operations/GetOperation";
    const STREAM: &str = "/mesh.operations.v1.OperationEventsService/Watch";
    const WAIT_OPERATION: &str = "/google.longrunning.Operations/WaitOperation";
    const CHECK: &str = "/grpc.health.v1.Health/Check";

    /// One place of each kind, before a handler that reads its request and then waits until it is let go.
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
        Server { shed: shed(work, limits, metrics.clone()), metrics, go }
    }

    fn request(path: &str, body: Body) -> Call {
        let mut call = Call::to(path, body);
        call.request.extensions_mut().insert(Connection { ending: Default::default() });
        call
    }

    impl Server {
        /// Calls over the network; the call is under way when this returns.
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
    async fn a_call_that_cannot_be_started_in_time_is_refused_and_told_when_to_come_back() {
        let server = server();
        let first = server.call(CALL).await;
        let start = Instant::now();
        let refused = status(&server.call(CALL).await.await.unwrap()).unwrap();
        assert_eq!(start.elapsed(), WAIT);
        assert_eq!(refused.code(), Code::ResourceExhausted);
        let details = refused.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("OVERLOADED", DOMAIN));
        assert!(details.retry_info().unwrap().retry_delay.unwrap() >= Duration::from_millis(200));
        assert!(server.metrics.render().contains(
            r#"grpc_server_shed_total{grpc_service="google.longrunning.Operations",grpc_method="GetOperation"} 1"#
        ));

        server.finish();
        assert!(status(&first.await.unwrap()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_gets_a_place_in_time_is_served() {
        let server = server();
        let (first, second) = (server.call(CALL).await, server.call(CALL).await);
        for call in [first, second] {
            server.finish();
            assert!(status(&call.await.unwrap()).is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_with_little_time_does_not_spend_it_on_waiting() {
        let server = server();
        let _first = server.call(CALL).await;
        let deadline = Some(Instant::now() + Duration::from_millis(40));
        let context = CallContext { deadline, ..Default::default() };
        let start = Instant::now();
        assert!(status(&context.scope((server.shed)(request(CALL, message()))).await).is_some());
        assert_eq!(start.elapsed(), Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_leaves_gives_back_the_place() {
        let server = server();
        let first = server.call(CALL).await;
        first.abort();
        let second = server.call(CALL).await;
        server.finish();
        assert!(status(&second.await.unwrap()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_or_reads_slowly_has_no_place() {
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
    async fn what_waits_takes_no_place_of_what_works() {
        let server = server();
        let stream = server.call(STREAM).await;
        let call = server.call(CALL).await;
        let start = Instant::now();
        for path in [STREAM, WAIT_OPERATION] {
            assert!(status(&server.call(path).await.await.unwrap()).is_some(), "{path}");
        }
        assert_eq!(start.elapsed(), Duration::ZERO, "no stream ends in a moment");

        // A stream has its place until it ends.
        server.finish();
        let answer = stream.await.unwrap();
        assert!(status(&server.call(STREAM).await.await.unwrap()).is_some());
        drop(answer);
        assert!(!server.call(WAIT_OPERATION).await.is_finished(), "it waits");
        assert!(!call.is_finished(), "it is worked on");
    }

    #[tokio::test(start_paused = true)]
    async fn neither_health_nor_a_call_in_memory_needs_a_place() {
        let server = server();
        let _first = server.call(CALL).await;
        let in_memory = tokio::spawn((server.shed)(Call::to(CALL, message())));
        let check = server.call(CHECK).await;
        tokio::time::sleep(WAIT * 2).await;
        for call in [in_memory, check] {
            assert!(!call.is_finished(), "it is worked on");
            call.abort();
        }
    }
}

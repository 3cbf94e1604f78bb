//! One instance of a peer: what it has to do, how fast it does it, and whether it is well.
//!
//! What an instance has to do is its calls in flight, until the last trailer of each, times how long a call takes it of
//! late. That is a moving average which a slower call raises at once and faster ones lower over ten seconds, so that an
//! instance which begins to stumble is noticed before it falls ("peak EWMA").

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Parts, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

use super::connections::{Connections, Unanswered};
use super::deadline::Deadline;
use super::ejection::{self, Outcome, Share, Standing};
use crate::error::unavailable;
use crate::telemetry::EndpointMetrics;

/// How long an average remembers.
const MEMORY: Duration = Duration::from_secs(10);
/// Nobody is so fast that calls in flight do not count.
const FASTEST: Duration = Duration::from_micros(100);

/// One instance of a peer.
pub(super) struct Endpoint {
    pub(super) authority: Authority,
    /// How large a part of the calls it wants.
    pub(super) weight: AtomicU32,
    pub(super) standing: Standing,
    pub(super) in_flight: AtomicUsize,
    pub(super) latency: Mutex<Latency>,
    connections: Connections,
    metrics: EndpointMetrics,
}

impl Endpoint {
    pub(super) fn new(authority: Authority, share: Arc<Share>, metrics: EndpointMetrics) -> Self {
        Self {
            connections: Connections::to(authority.clone()),
            authority,
            weight: AtomicU32::new(1),
            standing: Standing::new(share),
            in_flight: AtomicUsize::new(0),
            latency: Mutex::default(),
            metrics,
        }
    }

    /// Asks it. That nothing at all came until the deadline is its fault.
    pub(super) async fn call(
        self: Arc<Self>,
        mut request: Request<Body>,
        deadline: Deadline,
    ) -> Result<Response<Body>, Unanswered> {
        self.metrics.picked();
        let mut call = Call::begin(Arc::clone(&self), deadline);
        *request.uri_mut() = self.locate(request.uri());
        match self.connections.send(request).await {
            Ok(response) => {
                call.answered(code(&response));
                Ok(response.map(|body| Body::new(Observed { body, call })))
            }
            Err(unanswered) => {
                call.ended(if unanswered.sent { Outcome::Badly } else { Outcome::Unreachable });
                Err(unanswered)
            }
        }
    }

    /// A service that asks it without that counting for anything.
    pub(super) fn probing(
        self: &Arc<Self>,
    ) -> impl tower::Service<Request<Body>, Response = Response<Incoming>, Error = Unanswered, Future: Send> + use<>
    {
        let endpoint = Arc::clone(self);
        tower::service_fn(move |mut request: Request<Body>| {
            let endpoint = Arc::clone(&endpoint);
            async move {
                *request.uri_mut() = endpoint.locate(request.uri());
                endpoint.connections.send(request).await
            }
        })
    }

    /// What it has to do, for the share of the calls that it wants; without how long that takes if nobody knows yet.
    pub(super) fn load(&self) -> (Option<f64>, f64) {
        let calls = (self.in_flight.load(Ordering::Relaxed) + 1) as f64;
        let calls = calls / f64::from(self.weight.load(Ordering::Relaxed).max(1));
        let latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner).now();
        (latency.map(|latency| calls * latency.max(FASTEST).as_secs_f64()), calls)
    }

    fn report(self: &Arc<Self>, outcome: Outcome) {
        if self.standing.ejects(outcome) {
            self.metrics.ejected();
            tracing::warn!(endpoint = %self.authority, "not called for a while: {}", match outcome {
                Outcome::Unreachable => "it cannot be reached",
                _ => "its calls fail",
            });
            tokio::spawn(ejection::watch(Arc::downgrade(self)));
        }
    }

    /// The same path here.
    fn locate(&self, uri: &Uri) -> Uri {
        let mut parts = Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = uri.path_and_query().cloned();
        // A scheme, an authority and a path are always a URI.
        Uri::from_parts(parts).unwrap_or_default()
    }
}

/// The code in the head of an answer, if it is there already; that of a proxy that speaks HTTP only.
pub(super) fn code<B>(response: &Response<B>) -> Option<Code> {
    match (Status::from_header_map(response.headers()), response.status()) {
        (Some(status), _) => Some(status.code()),
        (None, StatusCode::OK) => None,
        (None, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) => {
            Some(Code::Unavailable)
        }
        (None, _) => Some(Code::Unknown),
    }
}

/// How long a call takes, of late.
#[derive(Default)]
pub(super) struct Latency(Option<(Duration, Instant)>);

impl Latency {
    pub(super) fn took(&mut self, latest: Duration) {
        let average = match self.0 {
            Some((average, at)) if latest < average => {
                let kept = fading(at);
                average.mul_f64(kept) + latest.mul_f64(1.0 - kept)
            }
            _ => latest,
        };
        self.0 = Some((average, Instant::now()));
    }

    /// It fades, so that an instance nobody calls because it was slow is tried again.
    fn now(&self) -> Option<Duration> {
        self.0.map(|(average, at)| average.mul_f64(fading(at)))
    }
}

fn fading(since: Instant) -> f64 {
    (-since.elapsed().as_secs_f64() / MEMORY.as_secs_f64()).exp()
}

/// A call in flight.
struct Call {
    endpoint: Arc<Endpoint>,
    begin: Instant,
    deadline: Deadline,
    answered: bool,
    ended: bool,
}

impl Call {
    fn begin(endpoint: Arc<Endpoint>, deadline: Deadline) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { endpoint, begin: Instant::now(), deadline, answered: false, ended: false }
    }

    /// There is the head of an answer.
    fn answered(&mut self, code: Option<Code>) {
        self.answered = true;
        let outcome = code.map(Outcome::of);
        // Failures are often fast, and must not make it look good.
        if outcome.is_none_or(|outcome| outcome == Outcome::Well) {
            self.endpoint.latency.lock().unwrap_or_else(PoisonError::into_inner).took(self.begin.elapsed());
        }
        if let Some(outcome) = outcome {
            self.ended(outcome);
        }
    }

    fn ended(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.ended, true) {
            self.endpoint.report(outcome);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        // Who leaves earlier has reasons of their own, and a stream may well be open when its time is over.
        if !self.answered && self.deadline.is_over() {
            self.ended(Outcome::Badly);
        }
    }
}

/// The body of an answer, whose end is the end of its call.
struct Observed {
    body: Incoming,
    call: Call,
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                    self.call.ended(Outcome::of(status.code()));
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.call.ended(Outcome::Badly);
                Some(Err(lost(Arc::new(error))))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// UNAVAILABLE, reason `CONNECTION_LOST`: whether the work was done is not known.
pub(super) fn lost(cause: Arc<dyn std::error::Error + Send + Sync>) -> Status {
    let mut status = unavailable("CONNECTION_LOST", "the connection broke before the answer was there", RETRY_AFTER);
    status.set_source(cause);
    status
}

/// UNAVAILABLE, reason `ENDPOINT_UNREACHABLE`: nothing was done.
pub(super) fn unreachable(service: &str, cause: Arc<dyn std::error::Error + Send + Sync>) -> Status {
    let message = format!("no instance of `{service}` can be reached");
    let mut status = unavailable("ENDPOINT_UNREACHABLE", message, RETRY_AFTER);
    status.set_source(cause);
    status
}

/// By then other instances have been found, or this one is back.
const RETRY_AFTER: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(latency: &Latency) -> u128 {
        latency.now().unwrap_or_default().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_call_counts_at_once_and_fast_ones_make_up_for_it_slowly() {
        let mut latency = Latency::default();
        assert!(latency.now().is_none());
        latency.took(Duration::from_millis(10));
        latency.took(Duration::from_millis(500));
        assert_eq!(millis(&latency), 500);
        latency.took(Duration::from_millis(10));
        assert_eq!(millis(&latency), 500, "no time has passed");
        tokio::time::advance(MEMORY).await;
        latency.took(Duration::from_millis(10));
        assert!((150..250).contains(&millis(&latency)), "{}", millis(&latency));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_slow_is_forgotten() {
        let mut latency = Latency::default();
        latency.took(Duration::from_secs(5));
        tokio::time::advance(MEMORY * 10).await;
        assert_eq!(millis(&latency), 0);
    }
}

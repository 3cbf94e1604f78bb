//! One instance of a peer: what it has to do, how fast it does it, and whether it is well.
//!
//! What an instance has to do is its calls in flight times how long a call takes it of
//! late. That is a moving average which a slower call raises at once and faster ones lower over ten seconds, so that an
//! instance which begins to stumble is noticed before it falls ("peak EWMA").

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::uri::{Authority, Parts, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::body::Body;

use super::attempt::Attempt;
use super::connections::{Connections, Unanswered};
use super::deadline::Deadline;
use super::ejection::{self, Outcome, Share, Standing};
use crate::contract::Method;
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
    latency: Mutex<Latency>,
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

    /// Asks it.
    pub(super) async fn call(
        self: Arc<Self>,
        method: &'static Method,
        mut request: Request<Body>,
        deadline: Deadline,
    ) -> Result<Response<Body>, Unanswered> {
        self.metrics.picked();
        let attempt = Attempt::begin(Arc::clone(&self), method, deadline);
        *request.uri_mut() = self.locate(request.uri());
        match self.connections.send(request).await {
            Ok((response, in_use)) => Ok(attempt.answered(response, in_use)),
            Err(unanswered) => {
                attempt.unanswered(&unanswered);
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
                endpoint.connections.send(request).await.map(|(response, _)| response)
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

    /// It took so long to answer.
    pub(super) fn took(&self, latest: Duration) {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).took(latest);
    }

    /// How an attempt at it ended, at a call of `contract`.
    pub(super) fn report(self: &Arc<Self>, outcome: Outcome, contract: &'static str) {
        if self.standing.ejects(outcome) {
            self.metrics.ejected();
            tracing::warn!(endpoint = %self.authority, "not called for a while: {}", match outcome {
                Outcome::Unreachable => "it cannot be reached",
                _ => "its calls fail",
            });
            tokio::spawn(ejection::watch(Arc::downgrade(self), contract));
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

/// How long a call takes, of late.
#[derive(Default)]
struct Latency(Option<(Duration, Instant)>);

impl Latency {
    fn took(&mut self, latest: Duration) {
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

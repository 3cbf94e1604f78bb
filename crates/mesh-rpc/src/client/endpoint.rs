//! One instance of a peer: what it has to do, how fast it does it, and whether it is well.
//!
//! What an instance has to do is its calls in flight times how long a call takes it of
//! late. That is a moving average which a slower call raises at once and faster ones lower over ten seconds, so that an
//! instance which begins to stumble is noticed before it falls ("peak EWMA").

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Parts, Scheme};
use tokio::time::Instant;

use super::connections::Connections;
use super::outlier::{EjectionQuota, OutlierState};
use crate::telemetry::EndpointMetrics;

/// How long an average remembers.
const MEMORY: Duration = Duration::from_secs(10);
/// Nobody is so fast that calls in flight do not count.
const FASTEST: Duration = Duration::from_micros(100);

/// One instance of a peer.
pub struct Endpoint {
    pub(super) authority: Authority,
    /// How large a part of the calls it wants.
    pub(super) weight: AtomicU32,
    pub(super) outlier: OutlierState,
    pub(super) in_flight: AtomicUsize,
    latency: Mutex<Latency>,
    pub(super) connections: Connections,
    pub(super) metrics: EndpointMetrics,
}

impl Endpoint {
    pub(super) fn new(authority: Authority, quota: Arc<EjectionQuota>, metrics: EndpointMetrics) -> Self {
        Self {
            connections: Connections::to(authority.clone()),
            authority,
            weight: AtomicU32::new(1),
            outlier: OutlierState::new(quota),
            in_flight: AtomicUsize::new(0),
            latency: Mutex::default(),
            metrics,
        }
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

    /// The same path here.
    pub(super) fn locate(&self, uri: &Uri) -> Uri {
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

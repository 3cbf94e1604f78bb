//! One instance of a peer: its connections, its load and its outlier state.
//!
//! The load is the number of calls in flight times the latency, divided by the weight. The latency is a peak EWMA: a
//! slower call raises the average at once, faster calls lower it over ten seconds. So calls move away from an instance
//! as soon as it slows down. An average without a call for five seconds is forgotten: otherwise a single slow call,
//! such as the first one of a new process, would keep an instance idle until the average had decayed below that of the
//! others, which takes the longer the faster they are.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Parts, Scheme};
use tokio::sync::watch;
use tokio::time::Instant;

use super::connections::{Connections, Dial};
use super::outlier::{EjectionQuota, OutlierState};
use crate::telemetry::EndpointMetrics;

/// The time constant of the average.
const DECAY: Duration = Duration::from_secs(10);
/// The age from which an average is unknown again.
const MAX_AGE: Duration = Duration::from_secs(5);
/// The lowest latency in the load. Below it, calls in flight would not count.
const MIN_LATENCY: Duration = Duration::from_micros(100);

/// One instance of a peer.
pub struct Endpoint {
    pub(super) authority: Authority,
    /// Its share of the calls relative to other instances, from 1.
    pub(super) weight: AtomicU32,
    pub(super) outlier: OutlierState,
    pub(super) in_flight: AtomicUsize,
    latency: Mutex<Latency>,
    pub(super) connections: Connections,
    unreachable: Arc<watch::Sender<()>>,
    pub(super) metrics: EndpointMetrics,
}

impl Endpoint {
    pub(super) fn new(
        authority: Authority,
        dial: Dial,
        quota: Arc<EjectionQuota>,
        unreachable: Arc<watch::Sender<()>>,
        metrics: EndpointMetrics,
    ) -> Self {
        Self {
            connections: Connections::to(authority.clone(), dial),
            authority,
            weight: AtomicU32::new(1),
            outlier: OutlierState::new(quota),
            in_flight: AtomicUsize::new(0),
            latency: Mutex::default(),
            unreachable,
            metrics,
        }
    }

    /// Notifies discovery that no connection can be opened: the endpoint may have another address.
    pub(crate) fn report_unreachable(&self) {
        self.unreachable.send_replace(());
    }

    /// The load as time, if a latency is known, and as calls. Both are divided by the weight.
    pub(super) fn load(&self) -> (Option<f64>, f64) {
        let calls = (self.in_flight.load(Ordering::Relaxed) + 1) as f64;
        let calls = calls / f64::from(self.weight.load(Ordering::Relaxed).max(1));
        let latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner).current();
        (latency.map(|latency| calls * latency.max(MIN_LATENCY).as_secs_f64()), calls)
    }

    /// Records the latency of an attempt.
    pub(super) fn record_latency(&self, latest: Duration) {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).record(latest);
    }

    /// The path of `uri` at this endpoint.
    pub(super) fn absolute_uri(&self, uri: &Uri) -> Uri {
        let mut parts = Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = uri.path_and_query().cloned();
        // A scheme, an authority and a path always form a URI.
        Uri::from_parts(parts).unwrap_or_default()
    }
}

/// The peak EWMA of the latency.
#[derive(Default)]
struct Latency(Option<(Duration, Instant)>);

impl Latency {
    fn record(&mut self, latest: Duration) {
        let average = match self.recent() {
            Some((average, at)) if latest < average => {
                let kept = decay(at);
                average.mul_f64(kept) + latest.mul_f64(1.0 - kept)
            }
            _ => latest,
        };
        self.0 = Some((average, Instant::now()));
    }

    /// The average, which decays without calls; `None` if it is unknown.
    fn current(&self) -> Option<Duration> {
        self.recent().map(|(average, at)| average.mul_f64(decay(at)))
    }

    fn recent(&self) -> Option<(Duration, Instant)> {
        self.0.filter(|(_, at)| at.elapsed() < MAX_AGE)
    }
}

fn decay(since: Instant) -> f64 {
    (-since.elapsed().as_secs_f64() / DECAY.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(latency: &Latency) -> u128 {
        latency.current().unwrap_or_default().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn latency_rises_at_once_and_falls_slowly() {
        let mut latency = Latency::default();
        assert!(latency.current().is_none());
        latency.record(Duration::from_millis(10));
        latency.record(Duration::from_millis(500));
        assert_eq!(millis(&latency), 500);
        latency.record(Duration::from_millis(10));
        assert_eq!(millis(&latency), 500, "no time has passed");
        for _ in 0..4 {
            tokio::time::advance(DECAY / 4).await;
            latency.record(Duration::from_millis(10));
        }
        assert!((150..250).contains(&millis(&latency)), "{}", millis(&latency));
    }

    #[tokio::test(start_paused = true)]
    async fn latency_is_forgotten_without_calls() {
        let mut latency = Latency::default();
        latency.record(Duration::from_secs(5));
        tokio::time::advance(MAX_AGE / 2).await;
        assert!((3500..4500).contains(&millis(&latency)), "{}", millis(&latency));
        tokio::time::advance(MAX_AGE / 2).await;
        assert_eq!(latency.current(), None);
        latency.record(Duration::from_millis(10));
        assert_eq!(millis(&latency), 10, "the old average does not count");
    }
}

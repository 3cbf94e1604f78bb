//! The instances of one service, and the choice among them.
//!
//! The choice is "power of two choices": the less loaded of two random endpoints. It spreads load nearly as well as a
//! comparison of all endpoints.
//!
//! Guarantees:
//! - An ejected endpoint is not picked while another one is left. An endpoint that fails fast would look idle otherwise
//!   and attract every call.
//! - An endpoint that the call has tried is not picked while another healthy one is left.
//! - When discovery replaces the set, an endpoint that stays keeps its connections and its outlier state. So does one
//!   that returns while calls to it are still in flight.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;

use super::connections::Dial;
use super::endpoint::Endpoint;
use super::instance::Instance;
use super::outlier::EjectionQuota;
use crate::telemetry::PeerMetrics;

/// The instances of one service. Cheap to clone.
#[derive(Clone)]
pub struct Endpoints {
    /// `None` until discovery has answered or failed for the first time.
    known: Arc<watch::Sender<Option<Snapshot>>>,
    /// Why there is no instance, if discovery knows.
    why_empty: Arc<Mutex<Option<Arc<str>>>>,
    /// Notified when a connection to an endpoint fails.
    unreachable: Arc<watch::Sender<()>>,
    /// The known endpoints, and removed ones with calls in flight.
    alive: Arc<Mutex<Vec<Weak<Endpoint>>>>,
    quota: Arc<EjectionQuota>,
    dial: Dial,
    metrics: PeerMetrics,
}

type Snapshot = Arc<[Arc<Endpoint>]>;

impl Endpoints {
    /// Creates an unknown set. Calls wait until [`set`](Self::set).
    pub fn unknown(dial: Dial, metrics: PeerMetrics) -> Self {
        let (known, unreachable) = (Arc::new(watch::Sender::new(None)), Arc::new(watch::Sender::new(())));
        let (why_empty, alive, quota) = (Arc::default(), Arc::default(), Arc::default());
        Self { known, why_empty, unreachable, alive, quota, dial, metrics }
    }

    /// Notifies of failed connections, which may mean that the set is out of date.
    pub fn unreachable(&self) -> watch::Receiver<()> {
        self.unreachable.subscribe()
    }

    /// Empties the set. `why` completes the sentence "there is no instance: …".
    pub fn set_empty(&self, why: impl Into<Arc<str>>) {
        self.replace(&[], Some(why.into()));
    }

    /// Why the set is empty, if discovery knows.
    pub fn why_empty(&self) -> Option<Arc<str>> {
        self.why_empty.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the set.
    pub fn set(&self, instances: &[Instance]) {
        self.replace(instances, None);
    }

    fn replace(&self, instances: &[Instance], why_empty: Option<Arc<str>>) {
        *self.why_empty.lock().unwrap_or_else(PoisonError::into_inner) = why_empty;
        self.quota.endpoints.store(instances.len(), Ordering::Relaxed);
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        let before: Vec<_> = alive.iter().filter_map(Weak::upgrade).collect();
        let endpoint = |instance: &Instance| {
            let known = before.iter().find(|endpoint| endpoint.authority == instance.authority);
            let endpoint = known.cloned().unwrap_or_else(|| self.endpoint(instance));
            endpoint.weight.store(instance.weight, Ordering::Relaxed);
            endpoint
        };
        let now: Snapshot = instances.iter().map(endpoint).collect();
        let removed = before.iter().filter(|before| !now.iter().any(|endpoint| Arc::ptr_eq(endpoint, before)));
        *alive = now.iter().chain(removed).map(Arc::downgrade).collect();
        self.known.send_replace(Some(now));
    }

    fn endpoint(&self, instance: &Instance) -> Arc<Endpoint> {
        let authority = instance.authority.clone();
        let metrics = self.metrics.endpoint(authority.as_str());
        Arc::new(Endpoint::new(
            authority,
            self.dial.clone(),
            Arc::clone(&self.quota),
            Arc::clone(&self.unreachable),
            metrics,
        ))
    }

    /// Picks an endpoint, preferably none of `tried`; `None` if there is no instance. Waits while the set is unknown.
    pub async fn pick(&self, tried: &[Arc<Endpoint>]) -> Option<Arc<Endpoint>> {
        let now = self.known.borrow().clone();
        let known = match now {
            Some(known) => known,
            None => self.known.subscribe().wait_for(Option::is_some).await.ok()?.clone()?,
        };
        pick(&known, tried).cloned()
    }

    #[cfg(test)]
    pub(crate) fn authorities(&self) -> Vec<String> {
        let known = self.known.borrow();
        known.iter().flat_map(|known| known.iter()).map(|endpoint| endpoint.authority.to_string()).collect()
    }
}

/// Prefers an endpoint that is healthy and untried, then healthy. If all are ejected, it still picks one: untried, and one
/// that was ejected for what it answers before one that cannot be connected to. Failing at once, the latter would look idle
/// and attract every call, although the other may have recovered since.
fn pick<'a>(endpoints: &'a [Arc<Endpoint>], tried: &[Arc<Endpoint>]) -> Option<&'a Arc<Endpoint>> {
    let healthy = |endpoint: &Arc<Endpoint>| !endpoint.outlier.is_ejected();
    let untried = |endpoint: &Arc<Endpoint>| !tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint));
    let pick = less_loaded_of_two(endpoints, |endpoint| healthy(endpoint) && untried(endpoint));
    let pick = pick.or_else(|| less_loaded_of_two(endpoints, healthy));
    let answers = |endpoint: &Arc<Endpoint>| !endpoint.outlier.is_unreachable();
    let pick = pick.or_else(|| less_loaded_of_two(endpoints, |endpoint| answers(endpoint) && untried(endpoint)));
    pick.or_else(|| less_loaded_of_two(endpoints, untried)).or_else(|| less_loaded_of_two(endpoints, |_| true))
}

/// The less loaded of two random endpoints.
fn less_loaded_of_two(endpoints: &[Arc<Endpoint>], fit: impl Fn(&Arc<Endpoint>) -> bool) -> Option<&Arc<Endpoint>> {
    let one = weighted_choice(endpoints, &fit)?;
    let other = weighted_choice(endpoints, |endpoint| fit(endpoint) && !Arc::ptr_eq(endpoint, one));
    other.filter(|other| is_less_loaded(other, one)).or(Some(one))
}

/// A random endpoint among those that `fit`, in proportion to its weight.
fn weighted_choice(endpoints: &[Arc<Endpoint>], fit: impl Fn(&Arc<Endpoint>) -> bool) -> Option<&Arc<Endpoint>> {
    let weight = |endpoint: &Endpoint| u64::from(endpoint.weight.load(Ordering::Relaxed).max(1));
    let fitting = || endpoints.iter().filter(|endpoint| fit(endpoint));
    let all: u64 = fitting().map(|endpoint| weight(endpoint)).sum();
    let mut left = fastrand::u64(..all.max(1));
    fitting().find(|endpoint| {
        let here = weight(endpoint);
        let found = left < here;
        left = left.saturating_sub(here);
        found
    })
}

/// Compares the loads as time if both are known, else as calls.
fn is_less_loaded(a: &Endpoint, b: &Endpoint) -> bool {
    match (a.load(), b.load()) {
        ((Some(a), _), (Some(b), _)) | ((_, a), (_, b)) => a < b,
    }
}

#[cfg(test)]
mod tests {
    use super::super::outlier::Outcome;
    use super::*;
    use crate::telemetry::Metrics;
    use std::time::Duration;

    fn instances(weights: &[u32]) -> Vec<Instance> {
        let instance = |(port, weight): (usize, &u32)| {
            let authority = format!("127.0.0.1:{}", port + 1).parse().unwrap();
            Instance { authority, weight: *weight }
        };
        weights.iter().enumerate().map(instance).collect()
    }

    fn unknown() -> Endpoints {
        Endpoints::unknown(Dial::default(), Metrics::new().peer("echo"))
    }

    fn snapshot(weights: &[u32]) -> (Endpoints, Snapshot) {
        let endpoints = unknown();
        endpoints.set(&instances(weights));
        let snapshot = endpoints.known.borrow().clone().unwrap();
        (endpoints, snapshot)
    }

    fn endpoints(in_flight: &[usize]) -> Snapshot {
        let (_, endpoints) = snapshot(&vec![1; in_flight.len()]);
        for (endpoint, load) in endpoints.iter().zip(in_flight) {
            endpoint.in_flight.store(*load, Ordering::Relaxed);
        }
        endpoints
    }

    /// How often each endpoint is picked in a thousand calls that have `tried` these.
    fn picked_after(endpoints: &[Arc<Endpoint>], tried: &[Arc<Endpoint>]) -> Vec<usize> {
        let picked: Vec<_> = (0..1000).map(|_| pick(endpoints, tried).unwrap()).collect();
        endpoints.iter().map(|one| picked.iter().filter(|other| Arc::ptr_eq(one, other)).count()).collect()
    }

    fn picked(endpoints: &[Arc<Endpoint>]) -> Vec<usize> {
        picked_after(endpoints, &[])
    }

    #[tokio::test]
    async fn pick_prefers_the_less_loaded_of_two() {
        assert_eq!(picked(&endpoints(&[3, 1])), [0, 1000]);
        // Of three, the most loaded endpoint is never picked.
        let three = picked(&endpoints(&[0, 5, 0]));
        assert!(three[0] > 0 && three[1] == 0 && three[2] > 0, "{three:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn pick_weighs_calls_by_latency() {
        let two = endpoints(&[0, 0]);
        two[0].record_latency(Duration::from_millis(40));
        // The latency of the other endpoint is unknown.
        assert!(picked(&two).iter().all(|picked| *picked > 300), "{:?}", picked(&two));
        two[1].record_latency(Duration::from_millis(10));
        assert_eq!(picked(&two), [0, 1000]);
        // Four more calls outweigh a fourth of the latency.
        two[1].in_flight.store(4, Ordering::Relaxed);
        assert_eq!(picked(&two), [1000, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn pick_tries_an_instance_again_that_was_slow() {
        let two = endpoints(&[0, 0]);
        two[0].record_latency(Duration::from_millis(500));
        let mut tried = 0;
        // Ten calls a second, for 30 s. The first instance is still slow.
        for _ in 0..300 {
            two[1].record_latency(Duration::from_millis(1));
            if Arc::ptr_eq(pick(&two, &[]).unwrap(), &two[0]) {
                tried += 1;
                two[0].record_latency(Duration::from_millis(500));
            }
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert!((4..=6).contains(&tried), "tried {tried} times");
        // It is fast now: one call shows that.
        tokio::time::advance(Duration::from_secs(6)).await;
        two[0].record_latency(Duration::from_millis(1));
        two[1].record_latency(Duration::from_millis(1));
        assert!(picked(&two).iter().all(|picked| *picked > 300), "{:?}", picked(&two));
    }

    #[tokio::test]
    async fn pick_follows_the_weights() {
        let (_, idle) = snapshot(&[9, 1]);
        let picked_idle = picked(&idle);
        assert!(picked_idle[0] > 800, "{picked_idle:?}");
        // With nine times the weight, nine calls weigh as much as one.
        idle[0].in_flight.store(7, Ordering::Relaxed);
        assert_eq!(picked(&idle), [1000, 0]);
        idle[0].in_flight.store(9, Ordering::Relaxed);
        assert_eq!(picked(&idle), [0, 1000]);
    }

    #[tokio::test]
    async fn pick_avoids_an_ejected_endpoint() {
        let two = endpoints(&[0, 9]);
        assert!(two[0].outlier.record(Outcome::ConnectFailure));
        assert_eq!(picked(&two), [0, 1000]);
        assert!(pick(&two[..1], &[]).is_some(), "all are ejected: one is picked anyway");
        assert!(pick(&[], &[]).is_none());
    }

    #[tokio::test]
    async fn pick_prefers_what_answers_badly_to_what_is_unreachable() {
        let two = endpoints(&[9, 0]);
        assert!((0..5).any(|_| two[0].outlier.record(Outcome::Failure)));
        assert!(two[1].outlier.record(Outcome::ConnectFailure));
        assert_eq!(picked(&two), [1000, 0]);
        assert_eq!(picked_after(&two, &[Arc::clone(&two[0])]), [0, 1000]);
    }

    #[tokio::test]
    async fn pick_avoids_a_tried_endpoint() {
        let three = endpoints(&[0, 9, 0]);
        assert_eq!(picked_after(&three, &[Arc::clone(&three[0]), Arc::clone(&three[2])]), [0, 1000, 0]);
        // A tried endpoint is preferred to an ejected one.
        assert!(three[1].outlier.record(Outcome::ConnectFailure));
        let again = picked_after(&three, &[Arc::clone(&three[0]), Arc::clone(&three[2])]);
        assert_eq!(again[1], 0, "{again:?}");
    }

    #[tokio::test]
    async fn endpoints_that_stay_keep_their_connections() {
        let (endpoints, before) = snapshot(&[1, 1]);
        endpoints.set(&instances(&[1, 7, 1]));
        let after = endpoints.known.borrow().clone().unwrap();
        assert_eq!(after.len(), 3);
        assert!(Arc::ptr_eq(&before[0], &after[0]) && Arc::ptr_eq(&before[1], &after[1]));
        assert_eq!(before[1].weight.load(Ordering::Relaxed), 7);
        endpoints.set(&[]);
        assert!(endpoints.pick(&[]).await.is_none(), "the set is known to be empty");
        // The test's reference acts as a call in flight.
        endpoints.set(&instances(&[1]));
        let again = endpoints.known.borrow().clone().unwrap();
        assert!(Arc::ptr_eq(&before[0], &again[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn pick_waits_until_the_set_is_known() {
        let endpoints = unknown();
        let waiting = tokio::spawn({
            let endpoints = endpoints.clone();
            async move { endpoints.pick(&[]).await.is_some() }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        endpoints.set(&instances(&[1]));
        assert!(waiting.await.unwrap());
    }
}

//! The instances of one service as they are known now, and the choice among them.
//!
//! Of two endpoints chosen by chance, the one with less to do is taken ("power of two choices"), which spreads load
//! nearly as well as asking all of them. One that is ejected is not chosen while there is another: failing fast, it
//! would otherwise seem to have the least to do, and attract every call. Nor is one that this call has tried already.
//!
//! A registry replaces the whole set. An instance that stays keeps its connections and its standing; so does one that
//! goes and comes back before its last call has ended.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;

use super::endpoint::Endpoint;
use super::instance::Instance;
use super::outlier::EjectionQuota;
use crate::telemetry::PeerMetrics;

/// The instances of one service. Cheap to clone.
#[derive(Clone)]
pub struct Endpoints {
    /// `None` until the registry has answered, or has failed to.
    known: Arc<watch::Sender<Option<Snapshot>>>,
    /// Those that are known, and those that went and still have calls in flight.
    alive: Arc<Mutex<Vec<Weak<Endpoint>>>>,
    quota: Arc<EjectionQuota>,
    metrics: PeerMetrics,
}

type Snapshot = Arc<[Arc<Endpoint>]>;

impl Endpoints {
    /// Nothing is known yet: calls wait.
    pub fn unknown(metrics: PeerMetrics) -> Self {
        let known = Arc::new(watch::Sender::new(None));
        Self { known, alive: Arc::default(), quota: Arc::default(), metrics }
    }

    /// These are all there are.
    pub fn set(&self, instances: &[Instance]) {
        self.quota.all.store(instances.len(), Ordering::Relaxed);
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        let before: Vec<_> = alive.iter().filter_map(Weak::upgrade).collect();
        let endpoint = |instance: &Instance| {
            let stays = before.iter().find(|endpoint| endpoint.authority == instance.authority);
            let endpoint = stays.cloned().unwrap_or_else(|| self.endpoint(instance));
            endpoint.weight.store(instance.weight, Ordering::Relaxed);
            endpoint
        };
        let now: Snapshot = instances.iter().map(endpoint).collect();
        let went = before.iter().filter(|before| !now.iter().any(|endpoint| Arc::ptr_eq(endpoint, before)));
        *alive = now.iter().chain(went).map(Arc::downgrade).collect();
        self.known.send_replace(Some(now));
    }

    fn endpoint(&self, instance: &Instance) -> Arc<Endpoint> {
        let authority = instance.authority.clone();
        let metrics = self.metrics.endpoint(authority.as_str());
        Arc::new(Endpoint::new(authority, Arc::clone(&self.quota), metrics))
    }

    /// One to call, other than those that were `tried` if that can be; `None` if there are none at all. Waits for as
    /// long as nothing is known.
    pub async fn pick(&self, tried: &[Arc<Endpoint>]) -> Option<Arc<Endpoint>> {
        let now = self.known.borrow().clone();
        let known = match now {
            Some(known) => known,
            None => self.known.subscribe().wait_for(Option::is_some).await.ok()?.clone()?,
        };
        pick(&known, tried).cloned()
    }
}

/// If all are ejected, one of all: who knows whether they are back.
fn pick<'a>(endpoints: &'a [Arc<Endpoint>], tried: &[Arc<Endpoint>]) -> Option<&'a Arc<Endpoint>> {
    let well = |endpoint: &Arc<Endpoint>| !endpoint.outlier.is_ejected();
    let new = |endpoint: &Arc<Endpoint>| !tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint));
    let pick = better_of_two(endpoints, |endpoint| well(endpoint) && new(endpoint));
    let pick = pick.or_else(|| better_of_two(endpoints, well));
    pick.or_else(|| better_of_two(endpoints, new)).or_else(|| better_of_two(endpoints, |_| true))
}

/// Of two by chance, the one with less to do.
fn better_of_two(endpoints: &[Arc<Endpoint>], fit: impl Fn(&Arc<Endpoint>) -> bool) -> Option<&Arc<Endpoint>> {
    let one = by_weight(endpoints, &fit)?;
    let other = by_weight(endpoints, |endpoint| fit(endpoint) && !Arc::ptr_eq(endpoint, one));
    other.filter(|other| less_to_do(other, one)).or(Some(one))
}

/// One of those that fit by chance, each as likely as it weighs.
fn by_weight(endpoints: &[Arc<Endpoint>], fit: impl Fn(&Arc<Endpoint>) -> bool) -> Option<&Arc<Endpoint>> {
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

/// Whether `a` has less to do than `b`, in time if that is known of both, or else in calls.
fn less_to_do(a: &Endpoint, b: &Endpoint) -> bool {
    match (a.load(), b.load()) {
        ((Some(a), _), (Some(b), _)) | ((_, a), (_, b)) => a < b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::outlier::Outcome;
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
        Endpoints::unknown(Metrics::new().peer("echo"))
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

    /// How often each is picked out of a thousand times, by a call that has `tried` these.
    fn picked_after(endpoints: &[Arc<Endpoint>], tried: &[Arc<Endpoint>]) -> Vec<usize> {
        let picked: Vec<_> = (0..1000).map(|_| pick(endpoints, tried).unwrap()).collect();
        endpoints.iter().map(|one| picked.iter().filter(|other| Arc::ptr_eq(one, other)).count()).collect()
    }

    fn picked(endpoints: &[Arc<Endpoint>]) -> Vec<usize> {
        picked_after(endpoints, &[])
    }

    #[tokio::test]
    async fn of_two_the_one_with_less_to_do_is_taken() {
        assert_eq!(picked(&endpoints(&[3, 1])), [0, 1000]);
        // Of more than two the busiest is never taken, and the others are.
        let three = picked(&endpoints(&[0, 5, 0]));
        assert!(three[0] > 0 && three[1] == 0 && three[2] > 0, "{three:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_the_slower_one_gets_less_to_do() {
        let two = endpoints(&[0, 0]);
        two[0].took(Duration::from_millis(40));
        // Of the other one nothing is known.
        assert!(picked(&two).iter().all(|picked| *picked > 300), "{:?}", picked(&two));
        two[1].took(Duration::from_millis(10));
        assert_eq!(picked(&two), [0, 1000]);
        // Until that has more to do than it is faster.
        two[1].in_flight.store(4, Ordering::Relaxed);
        assert_eq!(picked(&two), [1000, 0]);
    }

    #[tokio::test]
    async fn who_wants_more_gets_more() {
        let (_, idle) = snapshot(&[9, 1]);
        let picked_idle = picked(&idle);
        assert!(picked_idle[0] > 800, "{picked_idle:?}");
        // Nine calls are to the one what one is to the other.
        idle[0].in_flight.store(7, Ordering::Relaxed);
        assert_eq!(picked(&idle), [1000, 0]);
        idle[0].in_flight.store(9, Ordering::Relaxed);
        assert_eq!(picked(&idle), [0, 1000]);
    }

    #[tokio::test]
    async fn what_is_ejected_is_not_picked_while_there_is_another() {
        let two = endpoints(&[0, 9]);
        assert!(two[0].outlier.ejects(Outcome::Unreachable));
        assert_eq!(picked(&two), [0, 1000]);
        assert!(pick(&two[..1], &[]).is_some(), "who knows whether it is back");
        assert!(pick(&[], &[]).is_none());
    }

    #[tokio::test]
    async fn what_was_tried_is_not_tried_again_while_there_is_another() {
        let three = endpoints(&[0, 9, 0]);
        assert_eq!(picked_after(&three, &[Arc::clone(&three[0]), Arc::clone(&three[2])]), [0, 1000, 0]);
        // But rather that than one that is known to fail.
        assert!(three[1].outlier.ejects(Outcome::Unreachable));
        let again = picked_after(&three, &[Arc::clone(&three[0]), Arc::clone(&three[2])]);
        assert_eq!(again[1], 0, "{again:?}");
    }

    #[tokio::test]
    async fn who_stays_keeps_the_connection() {
        let (endpoints, before) = snapshot(&[1, 1]);
        endpoints.set(&instances(&[1, 7, 1]));
        let after = endpoints.known.borrow().clone().unwrap();
        assert_eq!(after.len(), 3);
        assert!(Arc::ptr_eq(&before[0], &after[0]) && Arc::ptr_eq(&before[1], &after[1]));
        assert_eq!(before[1].weight.load(Ordering::Relaxed), 7);
        endpoints.set(&[]);
        assert!(endpoints.pick(&[]).await.is_none(), "nobody is left, and that is known");
        // As if there was a call in flight.
        endpoints.set(&instances(&[1]));
        let again = endpoints.known.borrow().clone().unwrap();
        assert!(Arc::ptr_eq(&before[0], &again[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_wait_until_something_is_known() {
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

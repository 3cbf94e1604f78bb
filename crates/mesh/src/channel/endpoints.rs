//! The instances of one service as they are known now, and the choice among them.
//!
//! Of two endpoints chosen by chance, the one with less to do is taken ("power of two choices"), which spreads load
//! nearly as well as asking all of them. What an instance has to do is its calls in flight, compared with the share it
//! wants. One that could not be reached is left out for a moment: failing fast, it would otherwise seem to have the
//! least to do, and attract every call.
//!
//! A registry replaces the whole set. An instance that stays keeps its connection, and one that goes keeps it until its
//! last call has ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::remote::Endpoint;
use crate::registry::Instance;

/// The instances of one service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Endpoints {
    /// `None` until the registry has answered, or has failed to.
    known: Arc<watch::Sender<Option<Snapshot>>>,
}

type Snapshot = Arc<[Arc<Endpoint>]>;

impl Endpoints {
    /// Nothing is known yet: calls wait.
    pub(crate) fn unknown() -> Self {
        Self { known: Arc::new(watch::Sender::new(None)) }
    }

    /// These are all there are.
    pub(crate) fn set(&self, instances: &[Instance]) {
        self.known.send_modify(|known| {
            let before = known.take().unwrap_or_default();
            let endpoint = |instance: &Instance| {
                let stays = before.iter().find(|endpoint| endpoint.authority == instance.authority);
                let endpoint = stays.cloned().unwrap_or_else(|| Arc::new(Endpoint::at(instance.authority.clone())));
                endpoint.weight.store(instance.weight, Ordering::Relaxed);
                endpoint
            };
            *known = Some(instances.iter().map(endpoint).collect());
        });
    }

    /// One to call; `None` if there are none. Waits for as long as nothing is known.
    pub(super) async fn pick(&self) -> Option<Arc<Endpoint>> {
        let now = self.known.borrow().clone();
        let known = match now {
            Some(known) => known,
            None => self.known.subscribe().wait_for(Option::is_some).await.ok()?.clone()?,
        };
        pick(&known)
    }
}

/// One of those that are not left out; if all are, one of all: who knows whether they are back.
fn pick(endpoints: &[Arc<Endpoint>]) -> Option<Arc<Endpoint>> {
    let reachable: Vec<_> = endpoints.iter().filter(|endpoint| !endpoint.is_left_out()).collect();
    let choice: Vec<_> = if reachable.is_empty() { endpoints.iter().collect() } else { reachable };
    let one = by_weight(&choice)?;
    // Another one, if there is another.
    let other = (one + 1 + fastrand::usize(..choice.len().max(2) - 1)) % choice.len();
    Some(Arc::clone(choice[if less_to_do(choice[other], choice[one]) { other } else { one }]))
}

/// The index of one of them by chance, each as likely as it weighs.
fn by_weight(endpoints: &[&Arc<Endpoint>]) -> Option<usize> {
    let weight = |endpoint: &Arc<Endpoint>| u64::from(endpoint.weight.load(Ordering::Relaxed).max(1));
    let all: u64 = endpoints.iter().copied().map(weight).sum();
    let mut left = fastrand::u64(..all.max(1));
    endpoints.iter().position(|endpoint| {
        let here = weight(endpoint);
        let found = left < here;
        left = left.saturating_sub(here);
        found
    })
}

/// Whether the calls in flight at `a` are fewer than those at `b`, for the share that each wants.
fn less_to_do(a: &Endpoint, b: &Endpoint) -> bool {
    let load = |endpoint: &Endpoint| endpoint.in_flight.load(Ordering::Relaxed) as u64;
    let weight = |endpoint: &Endpoint| u64::from(endpoint.weight.load(Ordering::Relaxed).max(1));
    load(a) * weight(b) < load(b) * weight(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instances(weights: &[u32]) -> Vec<Instance> {
        let instance = |(port, weight): (usize, &u32)| {
            let authority = format!("127.0.0.1:{}", port + 1).parse().unwrap();
            Instance { authority, weight: *weight }
        };
        weights.iter().enumerate().map(instance).collect()
    }

    fn snapshot(weights: &[u32]) -> (Endpoints, Snapshot) {
        let endpoints = Endpoints::unknown();
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

    /// How often each is picked out of a thousand times.
    fn picked(endpoints: &[Arc<Endpoint>]) -> Vec<usize> {
        let picked: Vec<_> = (0..1000).map(|_| pick(endpoints).unwrap()).collect();
        endpoints.iter().map(|one| picked.iter().filter(|other| Arc::ptr_eq(one, other)).count()).collect()
    }

    #[tokio::test]
    async fn of_two_the_one_with_less_to_do_is_taken() {
        assert_eq!(picked(&endpoints(&[3, 1])), [0, 1000]);
        // Of more than two the busiest is never taken, and the others are.
        let three = picked(&endpoints(&[0, 5, 0]));
        assert!(three[0] > 0 && three[1] == 0 && three[2] > 0, "{three:?}");
    }

    #[tokio::test]
    async fn who_wants_more_gets_more() {
        let (_, idle) = snapshot(&[9, 1]);
        let picked_idle = picked(&idle);
        assert!((800..1000).contains(&picked_idle[0]), "{picked_idle:?}");
        // Nine calls are to the one what one is to the other.
        idle[0].in_flight.store(8, Ordering::Relaxed);
        idle[1].in_flight.store(1, Ordering::Relaxed);
        assert_eq!(picked(&idle), [1000, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_reached_is_left_out_for_a_moment() {
        let two = endpoints(&[0, 9]);
        two[0].leave_out();
        assert_eq!(picked(&two), [0, 1000]);
        tokio::time::advance(super::super::remote::LEFT_OUT).await;
        assert_eq!(picked(&two), [1000, 0]);
        // If nothing else is left, it is tried.
        two[0].leave_out();
        assert!(pick(&two[..1]).is_some());
        assert!(pick(&[]).is_none());
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
        assert!(endpoints.pick().await.is_none(), "nobody is left, and that is known");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_wait_until_something_is_known() {
        let endpoints = Endpoints::unknown();
        let waiting = tokio::spawn({
            let endpoints = endpoints.clone();
            async move { endpoints.pick().await.is_some() }
        });
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        endpoints.set(&instances(&[1]));
        assert!(waiting.await.unwrap());
    }
}

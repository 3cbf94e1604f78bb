//! Outlier ejection: an endpoint that fails gets no calls for a while ([Envoy's term][envoy]).
//!
//! Detection is passive. An endpoint is ejected when a connection fails, and after five consecutive failures of its
//! own: INTERNAL, UNKNOWN, a broken connection, silence until the deadline, or an UNAVAILABLE that it does not
//! propagate from a peer of its own. `probe` reinstates it.
//!
//! Guarantees:
//! - At most half of the endpoints are ejected for bad responses. If more of them fail, a shared dependency is the
//!   likely cause.
//! - Endpoints that cannot be connected to do not count for that quota.
//!
//! See: decision 0014.
//!
//! [envoy]: https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};

use super::failure;

/// Consecutive failures that eject an endpoint.
const MAX_FAILURES: u32 = 5;
/// The time without an ejection after which earlier ones no longer count.
const EJECTION_MEMORY: Duration = Duration::from_secs(60);

/// The outcome of an attempt, as far as the endpoint is responsible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    Failure,
    /// No connection could be opened.
    ConnectFailure,
}

impl Outcome {
    pub(super) fn of(status: &Status) -> Self {
        match status.code() {
            Code::Unavailable | Code::Internal if failure::spares_the_endpoint(status) => Self::Success,
            Code::Unavailable | Code::Internal | Code::Unknown => Self::Failure,
            _ => Self::Success,
        }
    }
}

/// The ejection quota of a service: its number of endpoints, and how many of them are ejected for bad responses.
#[derive(Default)]
pub(super) struct EjectionQuota {
    pub(super) endpoints: AtomicUsize,
    ejected: AtomicUsize,
}

impl EjectionQuota {
    /// Takes one ejection, if at least half of the endpoints remain.
    fn acquire(&self) -> bool {
        let endpoints = self.endpoints.load(Ordering::Relaxed);
        let one_more = |ejected| (2 * (ejected + 1) <= endpoints).then_some(ejected + 1);
        self.ejected.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    fn release(&self) {
        self.ejected.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The outlier state of one endpoint.
pub(super) struct OutlierState {
    quota: Arc<EjectionQuota>,
    failures: AtomicU32,
    ejected: AtomicBool,
    /// Whether the ejection counts for the quota.
    holds_quota: AtomicBool,
    history: Mutex<History>,
}

struct History {
    ejections: u32,
    last: Instant,
}

impl OutlierState {
    pub(super) fn new(quota: Arc<EjectionQuota>) -> Self {
        Self {
            quota,
            failures: AtomicU32::new(0),
            ejected: AtomicBool::new(false),
            holds_quota: AtomicBool::new(false),
            history: Mutex::new(History { ejections: 0, last: Instant::now() }),
        }
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// Whether it is ejected because it cannot be connected to, rather than for what it answers.
    pub(super) fn is_unreachable(&self) -> bool {
        self.is_ejected() && !self.holds_quota.load(Ordering::Relaxed)
    }

    /// Records an outcome. Returns whether it ejects the endpoint; the caller then starts a probe.
    pub(super) fn record(&self, outcome: Outcome) -> bool {
        let failures = match outcome {
            Outcome::Success => {
                self.failures.store(0, Ordering::Relaxed);
                return false;
            }
            Outcome::Failure => self.failures.fetch_add(1, Ordering::Relaxed) + 1,
            Outcome::ConnectFailure => {
                // It answers no more, not even badly.
                self.release();
                MAX_FAILURES
            }
        };
        if failures < MAX_FAILURES || self.ejected.swap(true, Ordering::Relaxed) {
            return false;
        }
        if outcome == Outcome::Failure {
            let acquired = self.quota.acquire();
            self.holds_quota.store(acquired, Ordering::Relaxed);
            self.ejected.store(acquired, Ordering::Relaxed);
            return acquired;
        }
        true
    }

    pub(super) fn reinstate(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.release();
        self.ejected.store(false, Ordering::Relaxed);
    }

    fn release(&self) {
        if self.holds_quota.swap(false, Ordering::Relaxed) {
            self.quota.release();
        }
    }

    /// Counts an ejection, and returns the number of recent ones.
    pub(super) fn count_ejection(&self) -> u32 {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if history.last.elapsed() > EJECTION_MEMORY {
            history.ejections = 0;
        }
        *history = History { ejections: history.ejections + 1, last: Instant::now() };
        history.ejections
    }
}

impl Drop for OutlierState {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outlier states of `endpoints` endpoints of one service.
    fn states(endpoints: usize) -> Vec<OutlierState> {
        let quota = Arc::new(EjectionQuota::default());
        quota.endpoints.store(endpoints, Ordering::Relaxed);
        (0..endpoints).map(|_| OutlierState::new(Arc::clone(&quota))).collect()
    }

    fn fail(state: &OutlierState) -> bool {
        (0..MAX_FAILURES).any(|_| state.record(Outcome::Failure))
    }

    #[tokio::test]
    async fn ejection_needs_failures_in_a_row() {
        let two = states(2);
        for _ in 0..3 {
            for _ in 1..MAX_FAILURES {
                assert!(!two[0].record(Outcome::Failure));
            }
            assert!(!two[0].record(Outcome::Success));
        }
        assert!(fail(&two[0]) && two[0].is_ejected());
        // An ejected endpoint is not ejected again.
        assert!(!two[0].record(Outcome::Failure));
    }

    #[tokio::test]
    async fn ejection_quota_is_half_of_the_endpoints() {
        let five = states(5);
        let ejected = five.iter().filter(|state| fail(state)).count();
        assert_eq!(ejected, 2);
        five[0].reinstate();
        assert!(fail(&five[4]), "the quota is released");
        // The only endpoint is never ejected for bad responses.
        assert!(!fail(&states(1)[0]));
    }

    #[tokio::test]
    async fn ejection_of_unreachable_endpoints_has_no_quota() {
        for state in states(3) {
            assert!(state.record(Outcome::ConnectFailure) && state.is_ejected());
        }
    }

    #[tokio::test]
    async fn ejected_endpoint_that_can_no_longer_be_connected_to_is_unreachable() {
        let two = states(2);
        assert!(fail(&two[0]) && !two[0].is_unreachable());
        assert!(!two[0].record(Outcome::ConnectFailure) && two[0].is_unreachable());
        assert!(fail(&two[1]), "the quota is released");
    }

    #[tokio::test]
    async fn ejection_quota_is_released_by_a_removed_endpoint() {
        let mut two = states(2);
        assert!(fail(&two[0]));
        two.remove(0);
        assert!(fail(&two[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn ejections_are_counted_until_they_are_forgotten() {
        let one = states(1).remove(0);
        let counts: Vec<_> = (0..3).map(|_| one.count_ejection()).collect();
        assert_eq!(counts, [1, 2, 3]);
        tokio::time::advance(EJECTION_MEMORY + Duration::from_secs(1)).await;
        assert_eq!(one.count_ejection(), 1);
    }
}

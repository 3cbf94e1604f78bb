//! Outlier ejection: an endpoint that fails is left out for a while ([Envoy's term][envoy]).
//!
//! Detection is passive: it watches the calls themselves. An endpoint is ejected when it cannot be connected to, and when
//! five of its calls in a row failed in a way that is its own: UNAVAILABLE that it does not pass on from a peer of its
//! own, INTERNAL, UNKNOWN, a broken connection, or silence until the caller's deadline. `probe` takes it back.
//!
//! Guarantees: at most half of the endpoints are ejected for how they answer. If more of them fail, a dependency of theirs
//! does, and the rest would be overloaded. Endpoints that cannot be connected to do not count: calling them is no use.
//!
//! [envoy]: https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};

use super::failure;

/// Failures in a row.
const TOO_MANY: u32 = 5;
/// Time without an ejection after which the earlier ones are forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// How an attempt at a call went, as far as its endpoint is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Well,
    Badly,
    /// There was no connection to be had.
    Unreachable,
}

impl Outcome {
    pub(super) fn of(status: &Status) -> Self {
        match status.code() {
            Code::Unavailable if failure::is_blameless(status) => Self::Well,
            Code::Unavailable | Code::Internal | Code::Unknown => Self::Badly,
            _ => Self::Well,
        }
    }
}

/// The ejection quota of a service: its endpoints, and how many of them are ejected for how they answer.
#[derive(Default)]
pub(super) struct EjectionQuota {
    pub(super) all: AtomicUsize,
    left_out: AtomicUsize,
}

impl EjectionQuota {
    /// Takes one out, if that leaves at least half of them.
    fn take(&self) -> bool {
        let all = self.all.load(Ordering::Relaxed);
        let one_more = |left_out| (2 * (left_out + 1) <= all).then_some(left_out + 1);
        self.left_out.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    fn give_back(&self) {
        self.left_out.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The outlier state of one endpoint.
pub(super) struct OutlierState {
    quota: Arc<EjectionQuota>,
    failures: AtomicU32,
    ejected: AtomicBool,
    /// Whether it is one of those that count for the share.
    counted: AtomicBool,
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
            counted: AtomicBool::new(false),
            history: Mutex::new(History { ejections: 0, last: Instant::now() }),
        }
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// Whether this outcome ejects the endpoint. The caller then starts a probe.
    pub(super) fn ejects(&self, outcome: Outcome) -> bool {
        let failures = match outcome {
            Outcome::Well => {
                self.failures.store(0, Ordering::Relaxed);
                return false;
            }
            Outcome::Badly => self.failures.fetch_add(1, Ordering::Relaxed) + 1,
            Outcome::Unreachable => TOO_MANY,
        };
        if failures < TOO_MANY || self.ejected.swap(true, Ordering::Relaxed) {
            return false;
        }
        if outcome == Outcome::Badly {
            let taken = self.quota.take();
            self.counted.store(taken, Ordering::Relaxed);
            self.ejected.store(taken, Ordering::Relaxed);
            return taken;
        }
        true
    }

    pub(super) fn reinstate(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.give_back();
        self.ejected.store(false, Ordering::Relaxed);
    }

    fn give_back(&self) {
        if self.counted.swap(false, Ordering::Relaxed) {
            self.quota.give_back();
        }
    }

    /// How often the endpoint was ejected of late, this time included.
    pub(super) fn ejections(&self) -> u32 {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if history.last.elapsed() > FORGOTTEN {
            history.ejections = 0;
        }
        *history = History { ejections: history.ejections + 1, last: Instant::now() };
        history.ejections
    }
}

impl Drop for OutlierState {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outlier states of that many endpoints of one service.
    fn states(all: usize) -> Vec<OutlierState> {
        let quota = Arc::new(EjectionQuota::default());
        quota.all.store(all, Ordering::Relaxed);
        (0..all).map(|_| OutlierState::new(Arc::clone(&quota))).collect()
    }

    fn fail(state: &OutlierState) -> bool {
        (0..TOO_MANY).any(|_| state.ejects(Outcome::Badly))
    }

    #[tokio::test]
    async fn ejection_needs_failures_in_a_row() {
        let two = states(2);
        for _ in 0..3 {
            for _ in 1..TOO_MANY {
                assert!(!two[0].ejects(Outcome::Badly));
            }
            assert!(!two[0].ejects(Outcome::Well));
        }
        assert!(fail(&two[0]) && two[0].is_ejected());
        // It is reported once.
        assert!(!two[0].ejects(Outcome::Badly));
    }

    #[tokio::test]
    async fn ejection_quota_is_half_for_bad_answers() {
        let five = states(5);
        let ejected = five.iter().filter(|state| fail(state)).count();
        assert_eq!(ejected, 2);
        five[0].reinstate();
        assert!(fail(&five[4]), "there is room again");
        // The only one never is.
        assert!(!fail(&states(1)[0]));
    }

    #[tokio::test]
    async fn ejection_of_unreachable_endpoints_has_no_quota() {
        for state in states(3) {
            assert!(state.ejects(Outcome::Unreachable) && state.is_ejected());
        }
    }

    #[tokio::test]
    async fn ejection_quota_is_given_back_by_an_endpoint_that_is_gone() {
        let mut two = states(2);
        assert!(fail(&two[0]));
        two.remove(0);
        assert!(fail(&two[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn ejections_are_counted_until_they_are_forgotten() {
        let one = states(1).remove(0);
        let counts: Vec<_> = (0..3).map(|_| one.ejections()).collect();
        assert_eq!(counts, [1, 2, 3]);
        tokio::time::advance(FORGOTTEN + Duration::from_secs(1)).await;
        assert_eq!(one.ejections(), 1);
    }
}

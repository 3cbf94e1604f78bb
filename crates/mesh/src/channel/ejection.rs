//! Leaving out an endpoint that fails, and taking it back: passive outlier ejection.
//!
//! What is watched are the calls themselves. An endpoint is ejected when it cannot be connected to, and when five of its
//! calls in a row failed in a way that is its own: with UNAVAILABLE that it does not pass on from deeper, with INTERNAL or
//! UNKNOWN, with a connection that broke, or with silence until the caller's deadline. From then on it is asked for its health in the background, after a
//! second first and after twice as long each time, and comes back when it is well. So no caller's request is what tries
//! it out. One that comes back and fails again begins with a longer pause.
//!
//! No more than half of the endpoints are left out for how they answer: if more of them fail, then what they stand on
//! does, and those that are left would only be overloaded. There is no such limit for those that cannot be connected to;
//! calling them helps nobody.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::endpoint::Endpoint;
use super::failure;

/// Failures in a row.
const TOO_MANY: u32 = 5;
/// Until the first question for its health; then twice as long each time.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(10);
/// How long a question may take.
const ANSWER: Duration = Duration::from_secs(1);
/// After so long without another ejection, the earlier ones are forgotten.
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

/// How many endpoints of a service there are, and how many of them are left out for how they answer.
#[derive(Default)]
pub(super) struct Share {
    pub(super) all: AtomicUsize,
    left_out: AtomicUsize,
}

impl Share {
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

/// What an endpoint's calls have made of it.
pub(super) struct Standing {
    share: Arc<Share>,
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

impl Standing {
    pub(super) fn new(share: Arc<Share>) -> Self {
        Self {
            share,
            failures: AtomicU32::new(0),
            ejected: AtomicBool::new(false),
            counted: AtomicBool::new(false),
            history: Mutex::new(History { ejections: 0, last: Instant::now() }),
        }
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// Whether this outcome ejects the endpoint, which is then to be [watched](watch).
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
            let taken = self.share.take();
            self.counted.store(taken, Ordering::Relaxed);
            self.ejected.store(taken, Ordering::Relaxed);
            return taken;
        }
        true
    }

    fn reinstate(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.give_back();
        self.ejected.store(false, Ordering::Relaxed);
    }

    fn give_back(&self) {
        if self.counted.swap(false, Ordering::Relaxed) {
            self.share.give_back();
        }
    }

    /// How long this ejection lasts at least.
    fn pause(&self) -> Duration {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if history.last.elapsed() > FORGOTTEN {
            history.ejections = 0;
        }
        let pause = FIRST.saturating_mul(1 << history.ejections.min(10)).min(LONGEST);
        *history = History { ejections: history.ejections + 1, last: Instant::now() };
        pause
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Takes back an endpoint that was ejected for calls of `contract`, when it is well. Ends with it.
pub(super) async fn watch(endpoint: Weak<Endpoint>, contract: &'static str) {
    let Some(mut pause) = endpoint.upgrade().map(|endpoint| endpoint.standing.pause()) else { return };
    loop {
        // Not all callers of an instance ask it at the same time.
        sleep(pause.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
        let Some(endpoint) = endpoint.upgrade() else { return };
        if is_well(&endpoint, contract).await {
            endpoint.standing.reinstate();
            return tracing::info!(endpoint = %endpoint.authority, "back among those that are called");
        }
        pause = (pause * 2).min(LONGEST);
    }
}

/// Whether it says so, or serves but does not know the question.
async fn is_well(endpoint: &Arc<Endpoint>, contract: &'static str) -> bool {
    let mut health = HealthClient::new(endpoint.probing());
    let question = HealthCheckRequest { service: contract.to_owned() };
    match timeout(ANSWER, health.check(question)).await {
        Ok(Ok(answer)) => answer.get_ref().status() == ServingStatus::Serving,
        Ok(Err(status)) => matches!(status.code(), Code::Unimplemented | Code::NotFound),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The standings of that many endpoints of one service.
    fn standings(all: usize) -> Vec<Standing> {
        let share = Arc::new(Share::default());
        share.all.store(all, Ordering::Relaxed);
        (0..all).map(|_| Standing::new(Arc::clone(&share))).collect()
    }

    fn fail(standing: &Standing) -> bool {
        (0..TOO_MANY).any(|_| standing.ejects(Outcome::Badly))
    }

    #[tokio::test]
    async fn failures_in_a_row_eject_and_a_success_between_them_does_not() {
        let two = standings(2);
        for _ in 0..3 {
            for _ in 1..TOO_MANY {
                assert!(!two[0].ejects(Outcome::Badly));
            }
            assert!(!two[0].ejects(Outcome::Well));
        }
        assert!(fail(&two[0]) && two[0].is_ejected());
        // It is told once.
        assert!(!two[0].ejects(Outcome::Badly));
    }

    #[tokio::test]
    async fn at_most_half_are_left_out_for_how_they_answer() {
        let five = standings(5);
        let ejected = five.iter().filter(|standing| fail(standing)).count();
        assert_eq!(ejected, 2);
        five[0].reinstate();
        assert!(fail(&five[4]), "there is room again");
        // The only one never is.
        assert!(!fail(&standings(1)[0]));
    }

    #[tokio::test]
    async fn all_that_cannot_be_reached_are_left_out_at_once() {
        for standing in standings(3) {
            assert!(standing.ejects(Outcome::Unreachable) && standing.is_ejected());
        }
    }

    #[tokio::test]
    async fn one_that_is_gone_does_not_count() {
        let mut two = standings(2);
        assert!(fail(&two[0]));
        two.remove(0);
        assert!(fail(&two[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn who_fails_again_and_again_is_left_out_for_longer() {
        let one = standings(1).remove(0);
        let pauses: Vec<_> = (0..6).map(|_| one.pause().as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
        tokio::time::advance(FORGOTTEN + Duration::from_secs(1)).await;
        assert_eq!(one.pause(), FIRST);
    }
}

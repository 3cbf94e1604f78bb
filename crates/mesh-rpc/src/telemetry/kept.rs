//! The calls that a process keeps: those that failed or were slow, and a sample of the others. The newest replace the
//! oldest.
//!
//! Does not: keep anything of a message.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tonic::Code;

use super::ends::Ends;
use super::kept_settings::KeepCalls;
use super::names::Names;

/// The reasons that a process keeps. Contracts have some dozens; a peer may make up others.
const REASONS: usize = 512;

/// A call that has ended.
#[derive(Clone, Copy, Debug)]
pub struct KeptCall {
    /// Its method, caller and callee.
    pub ends: &'static Ends,
    /// The trace.
    pub trace: u128,
    /// The span of the call.
    pub span: u64,
    /// The span within which it was made.
    pub parent: Option<std::num::NonZeroU64>,
    /// When it ended.
    pub ended_at: SystemTime,
    /// The time that it took.
    pub took: Duration,
    /// The code.
    pub code: Code,
    /// The reason, or nothing.
    pub reason: &'static str,
    /// The attempts, for a call that the process has made.
    pub attempts: u16,
    /// Whether it took longer than `dashboard.slow`.
    pub slow: bool,
}

impl KeptCall {
    /// When it began.
    pub fn started_at(&self) -> SystemTime {
        self.ended_at.checked_sub(self.took).unwrap_or(self.ended_at)
    }

    fn is_problem(&self) -> bool {
        self.slow || self.ends.is_failure(self.code)
    }
}

/// The calls that a process keeps.
pub(super) struct Kept {
    pub(super) keep: KeepCalls,
    pub(super) reasons: Names,
    ring: Mutex<Ring>,
}

struct Ring {
    calls: VecDeque<KeptCall>,
    since: SystemTime,
}

impl Kept {
    pub(super) fn new(keep: KeepCalls) -> Self {
        let ring = Ring { calls: VecDeque::new(), since: SystemTime::now() };
        Self { keep, reasons: Names::at_most(REASONS), ring: Mutex::new(ring) }
    }

    /// Keeps a call, in place of the oldest if there are too many.
    pub(super) fn add(&self, call: KeptCall) {
        if self.keep.calls == 0 {
            return;
        }
        let mut ring = self.ring();
        if ring.calls.len() >= self.keep.calls
            && let Some(gone) = ring.calls.pop_front()
        {
            ring.since = gone.ended_at;
        }
        ring.calls.push_back(call);
    }

    /// At most `most` calls, the newest first: of a method, and only problems, if that is asked for. And since when all
    /// are there.
    pub(super) fn list(&self, most: usize, method: Option<&str>, problems: bool) -> (Vec<KeptCall>, SystemTime) {
        let ring = self.ring();
        let asked =
            |call: &&KeptCall| (!problems || call.is_problem()) && method.is_none_or(|method| call.ends.is_of(method));
        (ring.calls.iter().rev().filter(asked).take(most).copied().collect(), ring.since)
    }

    /// The calls of a trace, by their begin.
    pub(super) fn trace(&self, trace: u128) -> Vec<KeptCall> {
        let mut calls: Vec<_> = self.ring().calls.iter().filter(|call| call.trace == trace).copied().collect();
        calls.sort_by_key(KeptCall::started_at);
        calls
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ends::Measured;
    use super::*;
    use crate::call::Method;

    fn call(trace: u128, code: Code, slow: bool) -> KeptCall {
        static ENDS: std::sync::OnceLock<Ends> = std::sync::OnceLock::new();
        let ends = ENDS.get_or_init(|| Ends {
            side: Measured::Served,
            caller: "",
            claimed: "",
            callee: "catalog",
            method: Method::unknown(),
            memory: false,
        });
        let (ended_at, took) = (SystemTime::UNIX_EPOCH + Duration::from_secs(trace as u64), Duration::from_millis(1));
        KeptCall { ends, trace, span: 1, parent: None, ended_at, took, code, reason: "", attempts: 0, slow }
    }

    #[test]
    fn kept_calls_are_bounded_and_the_newest_come_first() {
        // As mesh.toml and configuration.md say.
        assert_eq!(size_of::<KeptCall>(), 96);
        let kept = Kept::new(KeepCalls { calls: 3, ..KeepCalls::default() });
        let begun = kept.list(1, None, false).1;
        for trace in 1..=5 {
            kept.add(call(trace, if trace == 3 { Code::NotFound } else { Code::Ok }, trace == 5));
        }
        let traces = |most, method, problems| -> Vec<u128> {
            kept.list(most, method, problems).0.iter().map(|call| call.trace).collect()
        };
        assert_eq!(traces(100, None, false), [5, 4, 3]);
        assert_eq!(traces(2, None, false), [5, 4]);
        assert_eq!(traces(100, None, true), [5, 3]);
        assert_eq!((traces(100, Some("unknown"), false).len(), traces(100, Some("a.B/C"), false).len()), (3, 0));
        let since = kept.list(1, None, false).1;
        assert!(since != begun && since == call(2, Code::Ok, false).ended_at, "{since:?}");
        assert_eq!((kept.trace(4).len(), kept.trace(2).len()), (1, 0));
        let none = Kept::new(KeepCalls { calls: 0, ..KeepCalls::default() });
        none.add(call(1, Code::Ok, true));
        assert!(none.list(100, None, false).0.is_empty());
    }
}

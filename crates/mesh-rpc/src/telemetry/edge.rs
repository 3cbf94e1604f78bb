//! An edge: the calls of one method from one caller to one service, counted.
//!
//! Guarantees: a call that went well and was not slow costs counters alone, unless its trace is one of the sample.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::counters::{Counters, Totals};
use super::ends::{Ends, Measured};
use super::kept::{Kept, KeptCall};
use crate::call::Trace;

/// The calls of one edge.
pub struct Edge {
    /// What its calls have in common.
    pub ends: Ends,
    counters: Counters,
    counts: bool,
    last_failure: Mutex<Option<Failure>>,
    kept: Arc<Kept>,
}

/// A call that has failed.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// The code.
    pub code: Code,
    /// The reason, or nothing.
    pub reason: &'static str,
    /// The trace.
    pub trace: u128,
    /// When it ended.
    pub ended_at: SystemTime,
}

/// The end of a call.
pub struct Ended<'a> {
    /// As the caller sees it.
    pub status: &'a Status,
    /// The time that it took.
    pub took: Duration,
    /// Its own position.
    pub trace: Trace,
    /// The span within which it was made.
    pub parent: Option<NonZeroU64>,
    /// The attempts, for a call that is made.
    pub attempts: u16,
}

impl Edge {
    pub(super) fn new(ends: Ends, kept: Arc<Kept>, counts: bool) -> Self {
        Self { ends, counters: Counters::new(), counts, last_failure: Mutex::default(), kept }
    }

    /// Counts the begin of a call.
    pub fn begin(&self) {
        if self.counts {
            self.counters.begin();
        }
    }

    /// Counts the end of a call, and keeps it if it is worth that.
    pub fn end(&'static self, ended: &Ended<'_>) {
        if !self.counts {
            return;
        }
        let Ended { status, took, trace, .. } = ended;
        let code = status.code();
        self.counters.end(code as usize, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        // What waits lasts as long as nothing happens.
        let slow = *took >= self.kept.keep.slow && !self.ends.method.waits;
        if code != Code::Ok || slow || self.kept.keep.samples(trace.trace_id) {
            self.keep(ended, slow);
        }
    }

    /// Counts an attempt after the first.
    pub(crate) fn retried(&self) {
        self.counters.retry();
    }

    /// The counters.
    pub fn totals(&self) -> Totals {
        self.counters.totals()
    }

    /// Another mark than before means that something was counted.
    pub fn mark(&self) -> (u64, u64, u64) {
        self.counters.mark()
    }

    /// The last call that failed.
    pub fn last_failure(&self) -> Option<Failure> {
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn keep(&'static self, ended: &Ended<'_>, slow: bool) {
        let (code, trace, ended_at) = (ended.status.code(), ended.trace.trace_id, SystemTime::now());
        // A client leaves a stream when it has seen enough.
        let left = code == Code::Cancelled && self.ends.method.server_streaming;
        if left && !self.kept.keep.samples(trace) {
            return;
        }
        let reason = match code {
            Code::Ok => None,
            _ => ended.status.get_details_error_info().map(|info| info.reason),
        };
        let reason = self.kept.reasons.keep(&reason.unwrap_or_default());
        if code != Code::Ok && !left {
            let failure = Failure { code, reason, trace, ended_at };
            *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        }
        let attempts = if self.ends.side == Measured::Made { ended.attempts } else { 0 };
        let (span, parent, took) = (ended.trace.span_id, ended.parent, ended.took);
        self.kept.add(KeptCall { ends: &self.ends, trace, span, parent, ended_at, took, code, reason, attempts, slow });
    }
}

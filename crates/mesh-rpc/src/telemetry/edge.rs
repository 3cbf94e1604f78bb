//! An edge: the calls of one method from one caller to one service, counted.
//!
//! Guarantees: a call that went well and was not slow costs counters alone, unless its trace is one of the sample.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use mesh_proto::mesh::inspect::v1::inspect_service_server;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::counters::{Counters, Totals};
use super::ends::{Ends, Measured};
use super::kept::{Kept, KeptCall};
use crate::call::Trace;

/// The contract by which a dashboard asks.
const CONTRACT: &str = inspect_service_server::SERVICE_NAME;

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

    /// Keeps a call that has ended, if it is worth that, and counts it: a reader that sees it counted sees its failure.
    pub fn end(&'static self, ended: &Ended<'_>) {
        if !self.counts {
            return;
        }
        let Ended { status, took, trace, .. } = ended;
        let code = status.code();
        // A method that waits lasts as long as nothing happens.
        let slow = *took >= self.kept.keep.slow && !self.ends.method.waits;
        if (self.ends.is_failure(code) || slow || self.kept.keep.samples(trace.trace_id)) && !self.is_looked_by() {
            self.keep(ended, slow);
        }
        self.counters.end(code as usize, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Whether its calls are those of a dashboard, which would take the place of what it looks for.
    fn is_looked_by(&self) -> bool {
        self.ends.method.service == CONTRACT
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
        let reason = match code {
            Code::Ok => None,
            _ => ended.status.get_details_error_info().map(|info| info.reason),
        };
        let reason = self.kept.reasons.keep(&reason.unwrap_or_default());
        if self.ends.is_failure(code) {
            let failure = Failure { code, reason, trace, ended_at };
            *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
        }
        let attempts = if self.ends.side == Measured::Made { ended.attempts } else { 0 };
        let (span, parent, took) = (ended.trace.span_id, ended.parent, ended.took);
        self.kept.add(KeptCall { ends: &self.ends, trace, span, parent, ended_at, took, code, reason, attempts, slow });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Methods;
    use crate::telemetry::{Edges, KeepCalls};
    use std::thread;

    fn end(edge: &'static Edge, code: Code) {
        let (status, took, trace) = (Status::new(code, ""), Duration::ZERO, Trace::begin());
        edge.end(&Ended { status: &status, took, trace, parent: None, attempts: 1 });
    }

    #[test]
    fn edge_has_the_failure_of_every_call_that_it_has_counted() {
        let edges = Edges::default();
        let method = Methods::of(&[]).find("/google.longrunning.Operations/GetOperation");
        let names: Vec<&'static str> = (0..200).map(|number| &*format!("service-{number}").leak()).collect();
        for name in names {
            let edge = edges.made("film", name, method, false);
            thread::scope(|scope| {
                scope.spawn(|| end(edge, Code::NotFound));
                while edge.mark().1 == 0 {
                    std::hint::spin_loop();
                }
                assert!(edge.last_failure().is_some(), "{name}");
            });
        }
    }

    #[test]
    fn stream_that_its_client_leaves_is_no_problem() {
        let edges = Edges::new(KeepCalls { sample: 1, ..KeepCalls::default() }, true);
        let edge = edges.made("film", "artwork", Methods::of(&[]).find("/grpc.health.v1.Health/Watch"), false);
        end(edge, Code::Cancelled);
        let kept = |problems| edges.kept(10, None, problems).0.len();
        assert_eq!((kept(false), kept(true), edge.last_failure().is_none()), (1, 0, true));
        end(edge, Code::Unavailable);
        assert_eq!((kept(false), kept(true), edge.last_failure().is_some()), (2, 1, true));
    }
}

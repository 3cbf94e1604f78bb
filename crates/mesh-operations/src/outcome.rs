//! The state of an operation after an attempt, or if it gets no further attempt.

use std::time::Duration;

use mesh_proto::google::longrunning::operation;
use mesh_proto::mesh::operations::v1::State;
use mesh_rpc::call::error::{DOMAIN, status};
use mesh_rpc::call::peer;
use mesh_runtime::Backoff;
use prost::Message as _;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::clock::micros;
use super::row::Row;

/// The pause between attempts.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), LONGEST_PAUSE).jitter(0.5..1.0);
/// The longest pause between attempts.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The end of an attempt.
pub(super) enum Outcome {
    Returned(Result<Any, Status>),
    Cancelled,
    PastDeadline,
    Draining,
    /// The worker stood still for longer than it may hold the lease without a renewal.
    Stalled,
    LeaseLost,
}

impl Outcome {
    /// The size of the stored response, in bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Returned(Ok(response)) => response.value.len(),
            _ => 0,
        }
    }

    /// Changes the row of an operation to its state after this attempt. `attempts` is the limit of its kind.
    pub(super) fn apply(&self, row: &mut Row, attempts: i64, now: i64) {
        row.lease_until = 0;
        match self {
            Self::Returned(Ok(response)) => {
                row.finish(State::Succeeded, operation::Result::Response(response.clone()));
            }
            Self::Returned(Err(failure))
                if !is_transient(failure.code()) || (row.attempt >= attempts && !is_outage(failure)) =>
            {
                row.finish(State::Failed, error(failure));
            }
            Self::PastDeadline => row.finish(State::Failed, error(&past_deadline())),
            Self::Cancelled => row.finish(State::Cancelled, error(&cancelled())),
            // The next attempt would be cancelled at once.
            _ if row.cancel_requested => row.finish(State::Cancelled, error(&cancelled())),
            Self::Stalled if row.attempt >= attempts => row.finish(State::Failed, error(&abandoned())),
            Self::Returned(Err(_)) | Self::Stalled => {
                let attempt = u32::try_from(row.attempt).unwrap_or(u32::MAX);
                row.state = State::Pending;
                row.run_at = (now + micros(BACKOFF.pause(attempt))).min(row.deadline_at);
                // The work was not at fault, so the attempt does not count. The deadline bounds such attempts.
                if matches!(self, Self::Returned(Err(failure)) if is_outage(failure)) {
                    row.attempt -= 1;
                }
            }
            // The attempt does not count, and the next worker may claim the operation at once.
            Self::Draining | Self::LeaseLost => {
                row.state = State::Pending;
                row.attempt -= 1;
                row.run_at = now;
            }
        }
    }
}

/// Ends an operation that gets no further attempt, because it is cancelled, past its deadline, or its attempts are
/// exhausted; false if none of these applies.
pub(super) fn end_exhausted(row: &mut Row, attempts: i64, now: i64) -> bool {
    let (state, why) = if row.cancel_requested {
        (State::Cancelled, cancelled())
    } else if row.deadline_at <= now {
        (State::Failed, past_deadline())
    } else if row.attempt >= attempts {
        (State::Failed, abandoned())
    } else {
        return false;
    };
    row.finish(state, error(&why));
    true
}

/// Ends a pending operation that was cancelled.
pub(super) fn cancel_pending(row: &mut Row) {
    row.finish(State::Cancelled, error(&cancelled()));
}

/// Whether a failure with this code may be transient, so that a retry makes sense.
fn is_transient(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Internal
            | Code::Unknown
    )
}

/// Whether the attempt failed because a database takes no statements. A database that was busy may be so because of the
/// work.
fn is_outage(status: &Status) -> bool {
    let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN);
    info.is_some_and(|info| {
        info.reason == "DATABASE_UNAVAILABLE" && info.metadata.get("condition").is_none_or(|how| how != "busy")
    })
}

fn error(status: &Status) -> operation::Result {
    // The peer's code has decided about a retry. Callers see the service's.
    let status = peer::own(status.clone());
    // The details of a status, if it has any, are a complete google.rpc.Status.
    let whole = tonic_types::Status::decode(status.details()).ok().filter(|whole| whole.code != 0);
    operation::Result::Error(whole.unwrap_or_else(|| tonic_types::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    }))
}

fn cancelled() -> Status {
    status(Code::Cancelled, DOMAIN, "OPERATION_CANCELLED", "the operation was cancelled")
}

fn past_deadline() -> Status {
    status(
        Code::DeadlineExceeded,
        DOMAIN,
        "OPERATION_DEADLINE_EXCEEDED",
        "the operation did not end before its deadline",
    )
}

fn abandoned() -> Status {
    let message =
        "the last attempt ended without a result: its worker died, stood still past its lease, or was cut off";
    status(Code::Internal, DOMAIN, "OPERATION_ABANDONED", message)
}

pub(super) fn panicked() -> Status {
    status(Code::Internal, DOMAIN, "OPERATION_PANICKED", "internal error; its cause is in the service's log")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_rpc::call::Caller;

    /// The row after an attempt with this outcome.
    fn row_after(outcome: &Outcome, cancel_requested: bool, deadline_at: i64) -> Row {
        let mut row = Row {
            id: uuid::Uuid::nil(),
            caller: Caller::default(),
            kind: String::new(),
            state: State::Running,
            revision: 2,
            attempt: 1,
            fence: 1,
            worker: String::new(),
            lease_until: 1,
            run_at: 0,
            deadline_at,
            trace: None,
            cancel_requested,
            progress: Vec::new(),
            result: Vec::new(),
            created: 0,
            updated: 0,
        };
        outcome.apply(&mut row, 2, 0);
        row
    }

    #[test]
    fn outcome_of_a_cancelled_operation_allows_no_further_attempt() {
        let transient = Outcome::Returned(Err(Status::unavailable("not now")));
        assert_eq!(row_after(&transient, false, i64::MAX).state, State::Pending);
        assert_eq!(row_after(&transient, true, i64::MAX).state, State::Cancelled);
        assert_eq!(row_after(&Outcome::Draining, true, i64::MAX).state, State::Cancelled);
        assert_eq!(row_after(&transient, false, 7).run_at, 7, "no attempt begins after the deadline");

        assert_eq!(row_after(&Outcome::Stalled, true, i64::MAX).state, State::Cancelled);

        let last = Outcome::Returned(Err(Status::not_found("final")));
        assert_eq!(row_after(&last, true, i64::MAX).state, State::Failed, "a final failure wins over the cancellation");
    }

    #[test]
    fn outcome_of_stalls_ends_after_the_attempts() {
        let mut row = row_after(&Outcome::Stalled, false, i64::MAX);
        assert_eq!((row.state, row.attempt), (State::Pending, 1), "the attempt counts");
        assert!(row.run_at > 0, "not at once");
        row.attempt = 2;
        Outcome::Stalled.apply(&mut row, 2, 0);
        assert_eq!(row.state, State::Failed);

        let row = row_after(&Outcome::LeaseLost, false, i64::MAX);
        assert_eq!((row.state, row.attempt, row.run_at), (State::Pending, 0, 0), "the database was away");
    }

    #[test]
    fn error_keeps_the_details_of_its_status() {
        let operation::Result::Error(wire) = error(&past_deadline()) else { panic!() };
        assert_eq!(wire.code, i32::from(Code::DeadlineExceeded));
        assert_eq!(wire.details.len(), 1);
    }

    #[test]
    fn outcome_of_an_outage_does_not_count_as_an_attempt() {
        use mesh_store::{Condition, Error};
        let failed = |condition| {
            let failure = Error::unavailable(condition, sqlx::Error::PoolClosed);
            let mut row = row_after(&Outcome::Draining, false, i64::MAX);
            row.attempt = 2;
            Outcome::Returned(Err(failure.into())).apply(&mut row, 2, 0);
            (row.state, row.attempt)
        };
        assert_eq!(failed(Condition::Away), (State::Pending, 1));
        assert_eq!(failed(Condition::ReadOnly), (State::Pending, 1));
        assert_eq!(failed(Condition::Busy), (State::Failed, 2), "the work may hold itself up");
    }
}

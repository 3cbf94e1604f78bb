//! What becomes of an operation when an attempt ends, or when there will be none.

use std::time::Duration;

use mesh_proto::google::longrunning::operation;
use mesh_proto::mesh::operations::v1::State;
use prost::Message as _;
use prost_types::Any;
use tonic::{Code, Status};

use super::row::Row;
use crate::error::{DOMAIN, status};

/// The pause before another attempt: doubled every time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How an attempt ended.
pub(super) enum Outcome {
    Returned(Result<Any, Status>),
    Cancelled,
    TooLate,
    Draining,
    LeaseLost,
}

impl Outcome {
    /// How much of it is stored.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Returned(Ok(response)) => response.value.len(),
            _ => 0,
        }
    }

    /// Brings an operation to where this leaves it, if its kind is begun at most `attempts` times.
    pub(super) fn apply(&self, row: &mut Row, attempts: i64, now: i64) {
        row.lease_until = 0;
        match self {
            Self::Returned(Ok(response)) => {
                row.finish(State::Succeeded, operation::Result::Response(response.clone()));
            }
            Self::Returned(Err(failure)) if !passes(failure.code()) || row.attempt >= attempts => {
                row.finish(State::Failed, error(failure));
            }
            Self::TooLate => row.finish(State::Failed, error(&too_late())),
            Self::Cancelled => row.finish(State::Cancelled, error(&cancelled())),
            // From here on it would be begun again, only to be ended.
            _ if row.cancel_requested => row.finish(State::Cancelled, error(&cancelled())),
            Self::Returned(Err(_)) => {
                row.state = State::Pending;
                row.run_at = (now + super::micros(pause_after(row.attempt))).min(row.deadline_at);
            }
            // Not its fault: the attempt does not count, and whoever comes next goes on at once.
            Self::Draining | Self::LeaseLost => {
                row.state = State::Pending;
                row.attempt -= 1;
                row.run_at = now;
            }
        }
    }
}

/// Ends an operation that is not worth another attempt; false if it is.
pub(super) fn end_hopeless(row: &mut Row, attempts: i64, now: i64) -> bool {
    let (state, why) = if row.cancel_requested {
        (State::Cancelled, cancelled())
    } else if row.deadline_at <= now {
        (State::Failed, too_late())
    } else if row.attempt >= attempts {
        (State::Failed, abandoned())
    } else {
        return false;
    };
    row.finish(state, error(&why));
    true
}

/// Ends an operation that was cancelled before anybody began it.
pub(super) fn cancel_unbegun(row: &mut Row) {
    row.finish(State::Cancelled, error(&cancelled()));
}

/// Whether a failure may pass by itself, so that another attempt is worth it.
fn passes(code: Code) -> bool {
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

/// Jittered, so that what failed together does not come back together.
fn pause_after(attempt: i64) -> Duration {
    let doublings = u32::try_from(attempt - 1).unwrap_or_default().min(16);
    FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE).mul_f64(0.5 + fastrand::f64() / 2.0)
}

fn error(status: &Status) -> operation::Result {
    // The details of a status are a whole google.rpc.Status, if it has any.
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

fn too_late() -> Status {
    status(Code::DeadlineExceeded, DOMAIN, "OPERATION_DEADLINE_EXCEEDED", "the operation took longer than it may")
}

fn abandoned() -> Status {
    let message = "every attempt ended without a word: its worker died, or was cut off";
    status(Code::Internal, DOMAIN, "OPERATION_ABANDONED", message)
}

pub(super) fn panicked() -> Status {
    status(Code::Internal, DOMAIN, "OPERATION_PANICKED", "internal error; its cause is in the service's log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_within_bounds() {
        for attempt in 1..100 {
            let pause = pause_after(attempt);
            assert!(pause >= FIRST_PAUSE / 2 && pause <= LONGEST_PAUSE, "{attempt}: {pause:?}");
        }
    }

    /// What an attempt that ended so leaves of an operation.
    fn left_by(outcome: &Outcome, cancel_requested: bool, deadline_at: i64) -> Row {
        let mut row = Row {
            id: uuid::Uuid::nil(),
            owner: crate::operations::Owner::current(),
            kind: String::new(),
            state: State::Running,
            revision: 2,
            attempt: 1,
            fence: 1,
            worker: String::new(),
            lease_until: 1,
            run_at: 0,
            deadline_at,
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
    fn what_was_asked_to_stop_or_has_no_time_left_does_not_wait_for_another_attempt() {
        let passing = Outcome::Returned(Err(Status::unavailable("not now")));
        assert_eq!(left_by(&passing, false, i64::MAX).state, State::Pending);
        assert_eq!(left_by(&passing, true, i64::MAX).state, State::Cancelled);
        assert_eq!(left_by(&Outcome::Draining, true, i64::MAX).state, State::Cancelled);
        assert_eq!(left_by(&passing, false, 7).run_at, 7, "by then it has failed");

        let last = Outcome::Returned(Err(Status::not_found("for good")));
        assert_eq!(left_by(&last, true, i64::MAX).state, State::Failed, "the end may still win");
    }

    #[test]
    fn a_failure_keeps_its_reason() {
        let operation::Result::Error(wire) = error(&too_late()) else { panic!() };
        assert_eq!(wire.code, i32::from(Code::DeadlineExceeded));
        assert_eq!(wire.details.len(), 1);
    }
}

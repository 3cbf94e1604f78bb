//! The state of an operation after an attempt, or if it gets no further attempt.

use std::time::Duration;

use mesh_proto::google::longrunning::operation;
use mesh_proto::mesh::operations::v1::{Phase, State};
use mesh_runtime::Backoff;
use prost_types::Any;
use tonic::Status;

use super::clock::micros;
use super::failure::{abandoned, cancelled, error, is_outage, is_transient, past_deadline, wire};
use super::row::Row;

/// The pause between attempts.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), LONGEST_PAUSE).jitter(0.5..1.0);
/// The longest pause between attempts.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The time in which a saga that can only go on, or only be undone, is retried at least. Then it is stuck.
pub(super) const UNTIL_STUCK: Duration = Duration::from_secs(3600);
/// The attempts that such a saga gets at least: its process may have been down for all of its time.
const ATTEMPTS: i64 = 20;

/// The end of an attempt.
pub(super) enum Outcome {
    /// For a saga that undoes its steps, `Ok` means that all are undone.
    Returned(Result<Any, Status>),
    /// The saga cannot go on: it has begun a step that this program does not know.
    Stuck,
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
        if row.is_bound() { self.apply_to_bound(row, now) } else { self.apply_to_free(row, attempts, now) }
    }

    /// The state after an attempt that failure, cancellation and deadline may end.
    fn apply_to_free(&self, row: &mut Row, attempts: i64, now: i64) {
        match self {
            Self::Returned(Ok(response)) => {
                row.finish(State::Succeeded, operation::Result::Response(response.clone()));
            }
            Self::Stuck => stick(row),
            Self::Returned(Err(failure))
                if !is_transient(failure.code()) || (row.attempt >= attempts && !is_outage(failure)) =>
            {
                fail(row, State::Failed, failure, now);
            }
            Self::PastDeadline => fail(row, State::Failed, &past_deadline(), now),
            Self::Cancelled => fail(row, State::Cancelled, &cancelled(), now),
            // The next attempt would be cancelled at once.
            _ if row.cancel_requested => fail(row, State::Cancelled, &cancelled(), now),
            Self::Stalled if row.attempt >= attempts => fail(row, State::Failed, &abandoned(), now),
            Self::Returned(Err(_)) | Self::Stalled => {
                retry(row, now);
                row.run_at = row.run_at.min(row.deadline_at);
                // The work was not at fault, so the attempt does not count. The deadline bounds such attempts.
                if matches!(self, Self::Returned(Err(failure)) if is_outage(failure)) {
                    row.attempt -= 1;
                }
            }
            // The attempt does not count, and the next worker may claim the operation at once.
            Self::Draining | Self::LeaseLost => repeat(row, now),
        }
    }

    /// The state after an attempt at a saga that can only go on, or only be undone: neither cancellation, nor deadline,
    /// nor the number of attempts ends it.
    fn apply_to_bound(&self, row: &mut Row, now: i64) {
        let is_out_of_time = now - row.phase_since >= micros(UNTIL_STUCK);
        let is_exhausted = is_out_of_time && row.attempt >= ATTEMPTS;
        match self {
            Self::Returned(Ok(response)) => match row.stored_result().filter(|_| row.phase == Phase::Undoing) {
                Some(cause) => row.finish(state_of(&cause), cause),
                None => row.finish(State::Succeeded, operation::Result::Response(response.clone())),
            },
            Self::Stuck => stick(row),
            Self::Returned(Err(failure)) if !is_transient(failure.code()) => stick(row),
            Self::Returned(Err(_)) | Self::Stalled if is_exhausted => stick(row),
            // Such an attempt took a long time, and does not count.
            Self::PastDeadline if is_out_of_time => stick(row),
            Self::Returned(Err(_)) | Self::Stalled => retry(row, now),
            Self::Cancelled | Self::PastDeadline | Self::Draining | Self::LeaseLost => repeat(row, now),
        }
    }
}

/// Ends an operation with an error. A saga that has run undoes its steps first.
fn fail(row: &mut Row, state: State, why: &Status, now: i64) {
    let result = error(why);
    if !row.is_saga() || !row.has_run() {
        return row.finish(state, result);
    }
    row.finish(State::Pending, result);
    (row.phase, row.phase_since) = (Phase::Undoing, now);
    (row.attempt, row.lease_until) = (0, 0);
    // `run_at` stays: what is undone comes before what waits for its first attempt.
}

/// Takes a saga out of the work until it is resumed.
fn stick(row: &mut Row) {
    (row.state, row.stuck) = (State::Pending, true);
}

/// A further attempt after a pause.
fn retry(row: &mut Row, now: i64) {
    let attempt = u32::try_from(row.attempt).unwrap_or(u32::MAX);
    row.state = State::Pending;
    row.run_at = now + micros(BACKOFF.pause(attempt));
}

/// A further attempt at once; this one does not count.
fn repeat(row: &mut Row, now: i64) {
    row.state = State::Pending;
    row.attempt -= 1;
    row.run_at = now;
}

/// The state in which an operation ends with this result.
fn state_of(result: &operation::Result) -> State {
    match result {
        operation::Result::Response(_) => State::Succeeded,
        operation::Result::Error(cause) if *cause == wire(&cancelled()) => State::Cancelled,
        operation::Result::Error(_) => State::Failed,
    }
}

/// What becomes of an operation before its next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exhausted {
    /// It has a further attempt.
    No,
    /// A saga undoes its steps from now on, beginning with this attempt.
    Undoes,
    /// It has ended.
    Ended,
    /// A saga is stuck.
    Stuck,
}

/// Ends an operation that gets no further attempt, because it is cancelled, past its deadline, or its attempts are
/// exhausted. A saga undoes its steps then.
pub(super) fn end_exhausted(row: &mut Row, attempts: i64, now: i64) -> Exhausted {
    if row.is_bound() {
        let is_out_of_time = now - row.phase_since >= micros(UNTIL_STUCK);
        // Still running: the last attempt ended its process, or was lost with it.
        if row.state == State::Running && row.attempt >= ATTEMPTS && is_out_of_time {
            row.lease_until = 0;
            stick(row);
            return Exhausted::Stuck;
        }
        return Exhausted::No;
    }
    let (state, why) = if row.cancel_requested {
        (State::Cancelled, cancelled())
    } else if row.deadline_at <= now {
        (State::Failed, past_deadline())
    } else if row.attempt >= attempts {
        (State::Failed, abandoned())
    } else {
        return Exhausted::No;
    };
    fail(row, state, &why, now);
    if row.is_done() { Exhausted::Ended } else { Exhausted::Undoes }
}

/// Ends a pending operation that was cancelled. A worker undoes the steps of a saga first.
pub(super) fn cancel_pending(row: &mut Row, now: i64) {
    if !row.is_bound() && !row.stuck {
        fail(row, State::Cancelled, &cancelled(), now);
        row.run_at = row.run_at.min(now);
    }
}

/// Lets a stuck saga go on where it stopped.
pub(super) fn resume(row: &mut Row, now: i64) {
    (row.stuck, row.attempt) = (false, 0);
    (row.run_at, row.phase_since) = (now, now);
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_rpc::call::Caller;
    use tonic::Code;

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
            cause: None,
            cancel_requested,
            progress: Vec::new(),
            result: Vec::new(),
            created: 0,
            updated: 0,
            phase: Phase::Unspecified,
            stuck: false,
            phase_since: 0,
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

    const HOUR: i64 = 3600 * 1_000_000;

    /// The row of a saga in a phase since 0, in its first attempt.
    fn saga(phase: Phase) -> Row {
        let row = row_after(&Outcome::Draining, false, 2 * HOUR);
        Row { state: State::Running, attempt: 1, phase, ..row }
    }

    #[test]
    fn outcome_of_a_saga_undoes_until_the_pivot_and_goes_on_after_it() {
        let transient = || Outcome::Returned(Err(Status::unavailable("not now")));
        let last = || Outcome::Returned(Err(Status::not_found("final")));
        for (outcome, attempt) in
            [(Outcome::Cancelled, 1), (Outcome::PastDeadline, 1), (last(), 1), (transient(), 2), (Outcome::Stalled, 2)]
        {
            let mut row = Row { attempt, ..saga(Phase::Forward) };
            outcome.apply(&mut row, 2, HOUR);
            assert_eq!((row.state, row.phase, row.phase_since), (State::Pending, Phase::Undoing, HOUR));
            assert!(row.stored_result().is_some() && row.to_operation("work").result.is_none(), "the first cause");

            let mut row = Row { attempt, ..saga(Phase::Committed) };
            outcome.apply(&mut row, 2, HOUR / 2);
            let is_final = matches!(&outcome, Outcome::Returned(Err(failure)) if failure.code() == Code::NotFound);
            assert_eq!((row.state, row.phase, row.stuck), (State::Pending, Phase::Committed, is_final));
        }
    }

    #[test]
    fn saga_is_stuck_after_an_hour_of_failures() {
        let transient = Outcome::Returned(Err(Status::unavailable("not now")));
        for phase in [Phase::Committed, Phase::Undoing] {
            let after_attempts = |attempt, outcome: &Outcome, now| {
                let mut row = Row { attempt, ..saga(phase) };
                outcome.apply(&mut row, 2, now);
                (row.stuck, row.run_at - now)
            };
            let after = |outcome: &Outcome, now| after_attempts(ATTEMPTS, outcome, now);
            for outcome in [&transient, &Outcome::Stalled] {
                assert!(!after_attempts(ATTEMPTS - 1, outcome, 2 * HOUR).0, "the process was down");
            }
            let (stuck, pause) = after(&transient, HOUR - 1);
            assert!(!stuck && (1..=60_000_000).contains(&pause), "{pause}");
            assert!(after(&transient, HOUR).0 && after(&Outcome::Stalled, HOUR).0);
            assert!(after(&Outcome::PastDeadline, HOUR).0 && !after(&Outcome::PastDeadline, HOUR - 1).0);
            assert!(!after(&Outcome::Draining, HOUR).0 && !after(&Outcome::LeaseLost, HOUR).0);
        }
        let mut row = Row { phase_since: 0, stuck: true, ..saga(Phase::Undoing) };
        resume(&mut row, HOUR);
        assert_eq!((row.stuck, row.phase_since, row.attempt), (false, HOUR, 0), "it has another hour");
    }

    #[test]
    fn saga_that_ends_its_process_again_and_again_is_stuck_after_an_hour() {
        let claimed = |attempt, state, now| {
            let mut row = Row { attempt, state, ..saga(Phase::Undoing) };
            end_exhausted(&mut row, 2, now)
        };
        assert_eq!(claimed(ATTEMPTS, State::Running, HOUR), Exhausted::Stuck);
        assert_eq!(claimed(ATTEMPTS - 1, State::Running, HOUR), Exhausted::No);
        assert_eq!(claimed(ATTEMPTS, State::Pending, HOUR), Exhausted::No);
        assert_eq!(claimed(ATTEMPTS, State::Running, HOUR - 1), Exhausted::No);
    }

    #[test]
    fn saga_that_is_undone_ends_with_its_first_cause() {
        for (outcome, state) in [(Outcome::Cancelled, State::Cancelled), (Outcome::PastDeadline, State::Failed)] {
            let mut row = saga(Phase::Forward);
            outcome.apply(&mut row, 2, 1);
            let cause = row.stored_result();
            row.state = State::Running;
            Outcome::Returned(Ok(Any::default())).apply(&mut row, 2, 2);
            assert_eq!((row.state, row.to_operation("work").result), (state, cause));
        }
    }
}

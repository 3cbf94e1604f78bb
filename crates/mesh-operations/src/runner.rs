//! Runs an attempt under its lease, and writes its end.
//!
//! The task that runs the work also renews its lease. A worker that cannot renew it for 20 s stops the attempt, before
//! the lease expires at 30 s.
//!
//! Guarantees:
//! - The write of an attempt whose fence is out of date is refused (INV-12).
//!
//! Does not: prevent two attempts from running side by side. Leases expire by the wall clock of the database; a worker
//! stops by its monotonic clock, which stops while a machine sleeps. After a sleep or a pause of a process, two
//! attempts may run at the same time, on SQLite in one process. The fence refuses the writes of the older one.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use mesh_feed::notifier::Key;
use mesh_proto::mesh::operations::v1::{Change, State};
use mesh_rpc::call::{Context, Trace};
use mesh_rpc::telemetry::{self, Metrics};
use mesh_store::Error;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, field};

use super::attempt::Attempt;
use super::clock::micros;
use super::kind::Kind;
use super::operations::Operations;
use super::outcome::{self, Outcome};
use super::records::Records;
use super::row::Row;
use super::{clock, failure, leases, name, storage};

/// The interval of the renewals of a lease, and the time without a renewal after which a worker stops.
const RENEW: Duration = Duration::from_secs(10);
const RENEWAL_LIMIT: Duration = Duration::from_secs(20);
/// The interval at which times that lie too far ahead are looked for.
const MEND: Duration = Duration::from_secs(5);
/// A timer that fires this much too late shows that the worker stood still, and not the database.
const STALL: Duration = Duration::from_secs(5);
/// The shortest time that an attempt gets at a saga that can only go on, or be undone.
const SHORTEST: Duration = Duration::from_secs(60);
/// The pause before a failed write of a lease or an end is retried.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Runs attempts at operations of one kind.
pub(super) struct Runner {
    pub(super) operations: Operations,
    pub(super) kind: Kind,
    pub(super) metrics: Metrics,
    pub(super) draining: CancellationToken,
}

impl Runner {
    /// Runs one attempt, and writes its end. The permit is released at the end.
    pub(super) async fn run(self: Arc<Self>, row: Row, input: Vec<u8>, _permit: OwnedSemaphorePermit) {
        let Operations { records, batcher, .. } = &self.operations;
        let attempt = Arc::new(Attempt::new(records.clone(), batcher.clone(), &row));
        let left = time_left(&row);
        let (owner, started_in) = (row.caller.shown(), row.trace.map(|trace| trace.trace_id().to_string()));
        let (started_in, cause) = (started_in.unwrap_or_default(), row.cause());
        let correlation = cause.map(|cause| field::display(cause.correlation));
        let operation = attempt.name();
        tracing::info!(operation, kind = row.kind, attempt = row.attempt, owner, started_in, correlation, "begun");

        // The calls of an attempt are in one trace, those of the service. It is linked to the trace of the start, which
        // ended long before, and has its cause.
        let span = tracing::info_span!("attempt", operation, kind = row.kind, attempt = row.attempt);
        if let Some(started_in) = row.trace {
            telemetry::link(&span, started_in);
        }
        let trace = telemetry::position(&span).unwrap_or_else(Trace::begin);
        let context = Context { trace, cause, ..Context::default() };
        let running = context.scope((self.kind.run)(Arc::clone(&attempt), input)).instrument(span);
        let running = AssertUnwindSafe(running).catch_unwind();
        let outcome = tokio::select! {
            biased;
            returned = running => returned.unwrap_or_else(|_| Outcome::Returned(Err(failure::panicked()))),
            () = self.cancelled(&attempt) => Outcome::Cancelled,
            lost = keep_lease(|| self.renew(&attempt)) => lost,
            never = attempt.write_waiting() => match never {},
            () = sleep(left) => Outcome::PastDeadline,
            () = self.draining.cancelled() => Outcome::Draining,
        };
        self.end(&attempt, &Arc::new(outcome)).await;
    }

    /// Mends times that lie too far ahead, and counts the sagas that are stuck, until the drain.
    pub(super) async fn keep_house(self: Arc<Self>) {
        loop {
            // If the database is unavailable, the next round reads again.
            self.count_stuck().await;
            if self.draining.run_until_cancelled(sleep(MEND)).await.is_none() {
                return;
            }
            let _ = leases::mend_times(&self.operations.records, self.kind.name).await;
        }
    }

    async fn count_stuck(&self) {
        let Records { service, store, .. } = &self.operations.records;
        if self.kind.is_saga
            && let Ok(count) = leases::stuck(store, self.kind.name).await
        {
            self.metrics.stuck_sagas(service, self.kind.name, count);
        }
    }

    /// Waits until the operation is cancelled. A cancellation does not stop a saga that can only go on, or be undone.
    async fn cancelled(&self, attempt: &Attempt) {
        let mut listener = self.operations.records.notifier.listen(Key::Subject(attempt.caller.clone(), attempt.id));
        loop {
            listener.reset();
            let row = storage::peek(self.operations.records.store.reader(), attempt.id).await;
            if matches!(row, Ok(Some(row)) if row.cancel_requested && !row.is_bound()) {
                return;
            }
            // If the database is unavailable, the next round reads again.
            let _ = timeout(RENEW, listener.notified()).await;
        }
    }

    async fn renew(&self, attempt: &Attempt) -> Result<bool, Error> {
        let store = &self.operations.records.store;
        let mut tx = store.begin().await?;
        let until = clock::now(&mut *tx, store.dialect()).await? + micros(leases::LEASE);
        let kept = leases::renew(&mut tx, attempt.id, attempt.fence, until).await?;
        tx.commit().await?;
        Ok(kept)
    }

    /// Writes the end of an attempt, with retries as long as the lease may still be held.
    async fn end(&self, attempt: &Attempt, outcome: &Arc<Outcome>) {
        let start = Instant::now();
        let mut in_doubt = false;
        loop {
            match self.try_end(attempt, outcome).await {
                Ok(row) if row.stuck => return self.report_stuck(&row),
                Ok(row) if row.state == State::Pending => {
                    let Records { service, notifier, .. } = &self.operations.records;
                    // Some are due at once, such as a saga that undoes its steps.
                    notifier.notify(&Key::Work(service, row.kind));
                    return tracing::info!(operation = attempt.name(), "attempt ended; the operation is pending again");
                }
                Ok(row) => return tracing::info!(operation = attempt.name(), state = ?row.state, "ended"),
                Err(Error::LeaseLost) if in_doubt && self.is_end_written(attempt).await => {
                    return tracing::info!(operation = attempt.name(), "ended");
                }
                Err(Error::LeaseLost) => {
                    return tracing::warn!(
                        operation = attempt.name(),
                        fence = attempt.fence,
                        "the lease was lost; the result of this attempt is discarded"
                    );
                }
                Err(error) if start.elapsed() > RENEWAL_LIMIT => {
                    return tracing::error!(operation = attempt.name(), %error, "cannot write the end of the attempt");
                }
                Err(_) => {
                    in_doubt = true;
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Whether the database committed the end of this attempt although the commit reported a failure.
    async fn is_end_written(&self, attempt: &Attempt) -> bool {
        let row = storage::peek(self.operations.records.store.reader(), attempt.id).await;
        matches!(row, Ok(Some(row)) if row.fence == attempt.fence && row.state != State::Running)
    }

    /// Reports a saga that waits for an operator.
    pub(super) fn report_stuck(&self, row: &Row) {
        let operation = name::format(self.operations.records.service, row.id);
        let phase = row.phase;
        tracing::error!(
            operation,
            kind = row.kind,
            ?phase,
            "the saga is stuck: mend the cause, then `mesh operations resume {operation}`"
        );
    }

    async fn try_end(&self, attempt: &Attempt, outcome: &Arc<Outcome>) -> Result<Row, Error> {
        let (ending, attempts) = (Arc::clone(outcome), self.kind.attempts);
        let edit = move |row: &mut Row, now| ending.apply(row, attempts, now);
        let row = attempt.edit(Change::State, outcome.bytes(), edit).await?.ok_or(Error::LeaseLost)?;
        let (state, phase) = (row.state, row.phase);
        if let Outcome::Returned(Err(failure)) = &**outcome {
            let cause = std::error::Error::source(failure).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(operation = attempt.name(), ?state, ?phase, cause, "attempt failed: {}", failure.message());
        }
        Ok(row)
    }
}

/// The time until an attempt is past its deadline.
fn time_left(row: &Row) -> Duration {
    let left = if row.is_bound() {
        // The time of the operation does not count any more, but no attempt hangs for ever.
        (row.phase_since + micros(outcome::UNTIL_STUCK) - row.updated).max(micros(SHORTEST))
    } else {
        // Not longer than the operation may take in all: the clock may have gone back since the start.
        (row.deadline_at - row.updated).min(row.deadline_at - row.created)
    };
    Duration::from_micros(u64::try_from(left).unwrap_or_default())
}

/// Renews a lease by `renew`. Returns when the lease is lost, or when it could not be renewed for 20 s.
async fn keep_lease<F: Future<Output = Result<bool, Error>>>(renew: impl Fn() -> F) -> Outcome {
    let (mut kept, mut pause) = (Instant::now(), RENEW);
    loop {
        let planned = Instant::now() + pause;
        sleep(pause).await;
        // The lease counts from before the write of its renewal.
        let renewed = Instant::now();
        if renewed >= kept + RENEWAL_LIMIT {
            return if renewed >= planned + STALL { Outcome::Stalled } else { Outcome::LeaseLost };
        }
        match timeout_at(kept + RENEWAL_LIMIT, renew()).await {
            Ok(Ok(true)) => (kept, pause) = (renewed, RENEW),
            Ok(Ok(false)) | Err(_) => return Outcome::LeaseLost,
            Ok(Err(_)) => pause = RETRY_PAUSE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a lease that is renewed with `renewed`, in a process that stands still for `stall`.
    async fn lease(renewed: fn() -> Result<bool, Error>, stall: Duration) -> &'static str {
        let kept = tokio::spawn(async move { keep_lease(|| async move { renewed() }).await });
        tokio::task::yield_now().await;
        tokio::time::advance(stall).await;
        match timeout(Duration::from_secs(60), kept).await.map(Result::unwrap) {
            Ok(Outcome::Stalled) => "stalled",
            Ok(Outcome::LeaseLost) => "lost",
            Ok(_) => "ended",
            Err(_) => "kept",
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lease_tells_a_stall_of_its_worker_from_a_database_that_is_away() {
        let away = || Err(sqlx::Error::PoolTimedOut.into());
        assert_eq!(lease(|| Ok(true), Duration::ZERO).await, "kept");
        assert_eq!(lease(|| Ok(true), Duration::from_secs(19)).await, "kept", "in time");
        assert_eq!(lease(|| Ok(true), Duration::from_secs(21)).await, "stalled");
        assert_eq!(lease(away, Duration::from_secs(21)).await, "stalled");
        assert_eq!(lease(away, Duration::ZERO).await, "lost");
        assert_eq!(lease(|| Ok(false), Duration::ZERO).await, "lost");
    }
}

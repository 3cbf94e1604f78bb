//! Claims work, runs it under a lease, and writes how it ended.
//!
//! The task that runs the work also renews its lease. A worker that cannot renew it for 20 s gives up before the lease
//! ends at 30 s, so that two do not work at once while clocks run alike. They do not always: leases end by the wall clock
//! of the database, a worker gives up by the monotonic clock, which stands still while a machine sleeps. After a sleep, or
//! when a process stood still, two attempts may run side by side, on SQLite in one process. The fence keeps the work
//! whole: that of the older attempt is out of date, and the database refuses its writes.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use mesh_feed::notifier::Key;
use mesh_proto::mesh::operations::v1::{Change, State};
use mesh_rpc::call::Context;
use mesh_rpc::call::error::internal;
use mesh_runtime::Tasks;
use mesh_store::Error;
use prost::Message as _;
use prost_types::Any;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::Instrument as _;

use super::attempt::Attempt;
use super::clock::micros;
use super::operations::Operations;
use super::outcome::{self, Outcome};
use super::records::Records;
use super::row::Row;
use super::work::Work;
use super::{changes, clock, leases, steps, storage};

/// How long a claim lasts, how often it is renewed, and when a worker that cannot renew it gives up.
const LEASE: Duration = Duration::from_secs(30);
const RENEW: Duration = Duration::from_secs(10);
const GIVE_UP: Duration = Duration::from_secs(20);
/// The interval at which a worker looks for work without a notification: another attempt, work of a worker that died.
const POLL: Duration = Duration::from_millis(500);

/// A kind of work as the worker sees it.
pub struct Kind {
    name: &'static str,
    attempts: i64,
    concurrency: usize,
    run: Box<dyn Fn(Arc<Attempt>, Vec<u8>) -> Running + Send + Sync>,
}

type Running = Pin<Box<dyn Future<Output = Result<Any, Status>> + Send>>;

impl Kind {
    /// Of one type of work.
    pub fn new<W: Work>(work: W) -> Self {
        let concurrency = work.concurrency().max(1);
        let work = Arc::new(work);
        let run = move |attempt: Arc<Attempt>, input: Vec<u8>| -> Running {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let request = W::Request::decode(input.as_slice()).map_err(|error| internal(Arc::new(error)))?;
                let response = work.run(&attempt, request).await.map_err(Into::into)?;
                Any::from_msg(&response).map_err(|error| internal(Arc::new(error)))
            })
        };
        Self { name: W::KIND, attempts: W::ATTEMPTS.into(), concurrency, run: Box::new(run) }
    }
}

/// The workers of one service.
pub struct Workers {
    operations: Operations,
    kinds: Vec<Kind>,
}

impl Workers {
    /// None begins before [`start`](Self::start).
    pub fn new(operations: Operations, kinds: Vec<Kind>) -> Self {
        Self { operations, kinds }
    }

    /// Begins to work, as some of `tasks`, until `draining`.
    ///
    /// # Errors
    ///
    /// As for any transaction.
    pub async fn start(self, draining: &CancellationToken, tasks: &Tasks) -> Result<(), Error> {
        let Records { service, store, .. } = &self.operations.records;
        if store.dialect().is_alone() {
            // All leases were held by this process before it was started again: they are over.
            let mut tx = store.begin().await?;
            leases::release_all(&mut tx).await?;
            tx.commit().await?;
        }
        // Its nonce tells this boot from the one before.
        let worker = format!("{service}-{}", uuid::Uuid::new_v4());
        for kind in self.kinds {
            let one = Worker {
                operations: self.operations.clone(),
                kind,
                id: worker.clone(),
                draining: draining.clone(),
                tasks: tasks.clone(),
            };
            tasks.run(Arc::new(one).claim_and_run());
        }
        Ok(())
    }
}

/// Works on one kind.
struct Worker {
    operations: Operations,
    kind: Kind,
    id: String,
    draining: CancellationToken,
    tasks: Tasks,
}

impl Worker {
    async fn claim_and_run(self: Arc<Self>) {
        let permits = Arc::new(Semaphore::new(self.kind.concurrency));
        let records = self.records();
        let mut listener = records.notifier.listen(Key::Work(records.service, self.kind.name.to_owned()));
        // A claim takes the one writer of an embedded database: without a notification, ask a reader first.
        let mut notified = true;
        while !self.draining.is_cancelled() {
            let Some(Ok(permit)) = self.draining.run_until_cancelled(permits.clone().acquire_owned()).await else {
                break;
            };
            listener.reset();
            let claimed = if notified || self.is_there_work().await {
                let free = std::iter::from_fn(|| permits.clone().try_acquire_owned().ok());
                self.claim(std::iter::once(permit).chain(free).collect()).await
            } else {
                Ok(0)
            };
            match claimed {
                Ok(0) => {
                    // Not all workers of a database at the same moment.
                    let pause = timeout(POLL.mul_f64(0.5 + fastrand::f64()), listener.notified());
                    notified = matches!(self.draining.run_until_cancelled(pause).await, Some(Ok(())));
                }
                Ok(_) => notified = true,
                Err(error) => {
                    tracing::warn!(kind = self.kind.name, %error, "cannot look for work");
                    self.draining.run_until_cancelled(sleep(POLL)).await;
                }
            }
        }
    }

    fn records(&self) -> &Records {
        &self.operations.records
    }

    async fn is_there_work(&self) -> bool {
        // If it cannot be asked, a claim finds out.
        leases::is_claimable(&self.records().store, self.kind.name).await.unwrap_or(true)
    }

    /// Takes the oldest operations that want to be worked on, as many as there are permits, and begins them; how many
    /// it took.
    async fn claim(self: &Arc<Self>, permits: Vec<OwnedSemaphorePermit>) -> Result<usize, Error> {
        let Records { service, store, .. } = self.records();
        let mut tx = store.begin().await?;
        let now = clock::now(&mut *tx, store.dialect()).await?;
        let rows = leases::claimable(&mut tx, self.kind.name, now, permits.len()).await?;
        // A drain gives work back for the next process.
        if rows.is_empty() || self.draining.is_cancelled() {
            return Ok(0);
        }
        let (mut changed, mut begun) = (changes::Changed::new(service), Vec::new());
        let taken = rows.len();
        for mut row in rows {
            let exhausted = outcome::end_exhausted(&mut row, self.kind.attempts, now);
            if !exhausted {
                row.state = State::Running;
                row.attempt += 1;
                row.fence += 1;
                row.worker.clone_from(&self.id);
                row.lease_until = now + micros(LEASE);
            }
            changed.note(&mut row, Change::State, now);
            if !exhausted {
                begun.push(row);
            }
        }
        let ids: Vec<_> = begun.iter().map(|row| row.id).collect();
        let mut inputs = steps::inputs(&mut tx, &ids).await?;
        self.records().notify_followers(&mut tx, &changed.rows());
        changes::save(&mut tx, changed).await?;
        tx.commit().await?;
        for (row, permit) in begun.into_iter().zip(permits) {
            let input = inputs.remove(&row.id).unwrap_or_default();
            self.tasks.run(Arc::clone(self).work(row, input, permit));
        }
        Ok(taken)
    }

    async fn work(self: Arc<Self>, row: Row, input: Vec<u8>, _permit: OwnedSemaphorePermit) {
        let Operations { records, batcher, .. } = &self.operations;
        let attempt = Arc::new(Attempt::new(records.clone(), batcher.clone(), &row));
        let left = u64::try_from(row.deadline_at - row.updated).unwrap_or_default();
        tracing::info!(operation = attempt.name(), kind = row.kind, attempt = row.attempt, "begun");

        // The calls that an attempt makes are one trace.
        let span = tracing::info_span!("attempt", operation = attempt.name(), kind = row.kind, attempt = row.attempt);
        let running = Context::default().scope((self.kind.run)(Arc::clone(&attempt), input)).instrument(span);
        let running = AssertUnwindSafe(running).catch_unwind();
        let outcome = tokio::select! {
            biased;
            returned = running => Outcome::Returned(returned.unwrap_or_else(|_| Err(outcome::panicked()))),
            () = self.cancelled(&attempt) => Outcome::Cancelled,
            () = self.lease_lost(&attempt) => Outcome::LeaseLost,
            never = attempt.write_waiting() => match never {},
            () = sleep(Duration::from_micros(left)) => Outcome::PastDeadline,
            () = self.draining.cancelled() => Outcome::Draining,
        };
        self.end(&attempt, &Arc::new(outcome)).await;
    }

    /// Waits until the operation is cancelled.
    async fn cancelled(&self, attempt: &Attempt) {
        let mut listener = self.records().notifier.listen(Key::Subject(attempt.id));
        loop {
            listener.reset();
            let row = storage::peek(self.records().store.reader(), attempt.id).await;
            if matches!(row, Ok(Some(Row { cancel_requested: true, .. }))) {
                return;
            }
            // A database that is away now is asked again.
            let _ = timeout(RENEW, listener.notified()).await;
        }
    }

    /// Renews the lease until it is lost, or may be.
    async fn lease_lost(&self, attempt: &Attempt) {
        let (mut kept, mut pause) = (Instant::now(), RENEW);
        loop {
            sleep(pause).await;
            // A renewal counts from before it was written.
            let begun = Instant::now();
            match timeout_at(kept + GIVE_UP, self.renew(attempt)).await {
                Ok(Ok(true)) => (kept, pause) = (begun, RENEW),
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(_)) => pause = POLL,
            }
        }
    }

    async fn renew(&self, attempt: &Attempt) -> Result<bool, Error> {
        let store = &self.records().store;
        let mut tx = store.begin().await?;
        let until = clock::now(&mut *tx, store.dialect()).await? + micros(LEASE);
        let kept = leases::renew(&mut tx, attempt.id, attempt.fence, until).await?;
        tx.commit().await?;
        Ok(kept)
    }

    /// Writes how an attempt ended, as long as the lease may still be held.
    async fn end(&self, attempt: &Attempt, outcome: &Arc<Outcome>) {
        let start = Instant::now();
        let mut in_doubt = false;
        loop {
            match self.try_end(attempt, outcome).await {
                Ok(State::Pending) => return tracing::info!(operation = attempt.name(), "goes on later"),
                Ok(state) => return tracing::info!(operation = attempt.name(), ?state, "ended"),
                Err(Error::LeaseLost) if in_doubt && self.is_end_written(attempt).await => {
                    return tracing::info!(operation = attempt.name(), "ended");
                }
                Err(Error::LeaseLost) => {
                    return tracing::warn!(
                        operation = attempt.name(),
                        fence = attempt.fence,
                        "the lease is lost; what this worker did is discarded"
                    );
                }
                Err(error) if start.elapsed() > GIVE_UP => {
                    return tracing::error!(operation = attempt.name(), %error, "cannot write how it ended");
                }
                Err(_) => {
                    in_doubt = true;
                    sleep(POLL).await;
                }
            }
        }
    }

    /// Whether the database committed the end of this attempt, and went away before it answered.
    async fn is_end_written(&self, attempt: &Attempt) -> bool {
        let row = storage::peek(self.records().store.reader(), attempt.id).await;
        matches!(row, Ok(Some(row)) if row.fence == attempt.fence && row.state != State::Running)
    }

    async fn try_end(&self, attempt: &Attempt, outcome: &Arc<Outcome>) -> Result<State, Error> {
        let (ending, attempts) = (Arc::clone(outcome), self.kind.attempts);
        let edit = move |row: &mut Row, now| ending.apply(row, attempts, now);
        let row = attempt.edit(Change::State, outcome.bytes(), edit).await?;
        let state = row.map_or(State::Unspecified, |row| row.state);
        if let Outcome::Returned(Err(failure)) = &**outcome {
            let cause = std::error::Error::source(failure).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(operation = attempt.name(), ?state, cause, "attempt failed: {}", failure.message());
        }
        Ok(state)
    }
}

//! Claims work, runs it under a lease, and writes how it ended.
//!
//! The lease is kept by the same task that runs the work. What cannot renew it for too long gives up before the lease
//! ends, so that two do not work at once, as long as clocks go on alike. They do not always: leases end by the wall clock
//! of the database, and a worker gives up by the monotonic one, which stands still while a machine sleeps. So after a
//! sleep, or when a process stood still and did not notice, two attempts may run side by side, on SQLite in one process.
//! What keeps the work whole is the fence: that of the older is out of date, and the database refuses it.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use mesh_proto::mesh::operations::v1::State;
use prost::Message as _;
use prost_types::Any;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::Instrument as _;

use super::Operations;
use super::changes;
use super::feed::Change;
use super::outcome::{self, Outcome};
use super::row::Row;
use super::storage;
use super::work::{Context, Work};
use crate::context::Context as CallContext;
use crate::error::internal;
use crate::serve::Tasks;
use crate::store::Error;

/// How long a worker that says nothing keeps its work, how often it says something, and when it gives up by itself.
const LEASE: Duration = Duration::from_secs(30);
const RENEW: Duration = Duration::from_secs(10);
const GIVE_UP: Duration = Duration::from_secs(20);
/// How often to look for work that nobody was woken for: what waits for another attempt, what a dead worker has left.
const POLL: Duration = Duration::from_millis(500);

/// A kind of work as the worker sees it.
pub(crate) struct Kind {
    name: &'static str,
    attempts: i64,
    concurrency: usize,
    run: Box<dyn Fn(Arc<Context>, Vec<u8>) -> Running + Send + Sync>,
}

type Running = Pin<Box<dyn Future<Output = Result<Any, Status>> + Send>>;

impl Kind {
    pub(crate) fn new<W: Work>(work: W) -> Self {
        let work = Arc::new(work);
        let run = move |context: Arc<Context>, input: Vec<u8>| -> Running {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let request = W::Request::decode(input.as_slice()).map_err(|error| internal(Arc::new(error)))?;
                let response = work.run(&context, request).await.map_err(Into::into)?;
                Any::from_msg(&response).map_err(|error| internal(Arc::new(error)))
            })
        };
        Self { name: W::KIND, attempts: W::ATTEMPTS.into(), concurrency: W::CONCURRENCY, run: Box::new(run) }
    }
}

/// The workers of one service.
pub(crate) struct Workers {
    operations: Operations,
    kinds: Vec<Kind>,
}

impl Workers {
    pub(crate) fn new(operations: Operations, kinds: Vec<Kind>) -> Self {
        Self { operations, kinds }
    }

    /// Begins to work, as some of `tasks`, until `draining`.
    pub(crate) async fn start(self, draining: &CancellationToken, tasks: &Tasks) -> Result<(), Error> {
        if self.operations.store.dialect().is_alone() {
            // Whatever was being worked on was ours, and we were not: go on at once.
            let mut tx = self.operations.store.begin().await?;
            storage::release_all(&mut tx).await?;
            tx.commit().await?;
        }
        // Its nonce tells this boot from the one before.
        let worker = format!("{}-{}", self.operations.service, uuid::Uuid::new_v4());
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
        let mut sleeper = self.operations.wakes.on_work(self.operations.service, self.kind.name);
        // Looking costs the one writer of an embedded database: who was not woken asks a reader first.
        let mut woken = true;
        while !self.draining.is_cancelled() {
            let Some(Ok(permit)) = self.draining.run_until_cancelled(permits.clone().acquire_owned()).await else {
                break;
            };
            sleeper.look();
            let claimed = if woken || self.is_there_work().await {
                let free = std::iter::from_fn(|| permits.clone().try_acquire_owned().ok());
                self.claim(std::iter::once(permit).chain(free).collect()).await
            } else {
                Ok(0)
            };
            match claimed {
                Ok(0) => {
                    // Not all workers of a database at the same moment.
                    let pause = timeout(POLL.mul_f64(0.5 + fastrand::f64()), sleeper.woken());
                    woken = matches!(self.draining.run_until_cancelled(pause).await, Some(Ok(())));
                }
                Ok(_) => woken = true,
                Err(error) => {
                    tracing::warn!(kind = self.kind.name, %error, "cannot look for work");
                    self.draining.run_until_cancelled(sleep(POLL)).await;
                }
            }
        }
    }

    async fn is_there_work(&self) -> bool {
        // What cannot be asked is found out by trying.
        storage::is_claimable(&self.operations.store, self.kind.name).await.unwrap_or(true)
    }

    /// Takes the oldest operations that want to be worked on, as many as there are permits, and begins them; how many
    /// it took.
    async fn claim(self: &Arc<Self>, permits: Vec<OwnedSemaphorePermit>) -> Result<usize, Error> {
        let Operations { service, store, .. } = &self.operations;
        let mut tx = store.begin().await?;
        let now = storage::now(&mut *tx, store.dialect()).await?;
        let rows = storage::claimable(&mut tx, store.dialect(), self.kind.name, now, permits.len()).await?;
        // What a drain has given back is for whoever comes next.
        if rows.is_empty() || self.draining.is_cancelled() {
            return Ok(0);
        }
        let (mut changed, mut begun) = (changes::Changed::new(service), Vec::new());
        let taken = rows.len();
        for mut row in rows {
            let hopeless = outcome::end_hopeless(&mut row, self.kind.attempts, now);
            if !hopeless {
                row.state = State::Running;
                row.attempt += 1;
                row.fence += 1;
                row.worker.clone_from(&self.id);
                row.lease_until = now + super::micros(LEASE);
            }
            changed.note(&mut row, Change::State, now);
            if !hopeless {
                begun.push(row);
            }
        }
        let ids: Vec<_> = begun.iter().map(|row| row.id).collect();
        let mut inputs = storage::inputs(&mut tx, store.dialect(), &ids).await?;
        self.operations.wake_followers(&mut tx, &changed.rows());
        changes::save(&mut tx, store.dialect(), changed).await?;
        tx.commit().await?;
        for (row, permit) in begun.into_iter().zip(permits) {
            let input = inputs.remove(&row.id).unwrap_or_default();
            self.tasks.run(Arc::clone(self).work(row, input, permit));
        }
        Ok(taken)
    }

    async fn work(self: Arc<Self>, row: Row, input: Vec<u8>, _permit: OwnedSemaphorePermit) {
        let context = Arc::new(Context::new(self.operations.clone(), &row));
        let left = u64::try_from(row.deadline_at - row.updated).unwrap_or_default();
        tracing::info!(operation = context.name(), kind = row.kind, attempt = row.attempt, "begun");

        // The calls that an attempt makes are one trace.
        let span = tracing::info_span!("attempt", operation = context.name(), kind = row.kind, attempt = row.attempt);
        let running = CallContext::default().scope((self.kind.run)(Arc::clone(&context), input)).instrument(span);
        let running = AssertUnwindSafe(running).catch_unwind();
        let outcome = tokio::select! {
            biased;
            returned = running => Outcome::Returned(returned.unwrap_or_else(|_| Err(outcome::panicked()))),
            () = self.cancelled(&context) => Outcome::Cancelled,
            () = self.lease_lost(&context) => Outcome::LeaseLost,
            never = context.tell_what_waits() => match never {},
            () = sleep(Duration::from_micros(left)) => Outcome::TooLate,
            () = self.draining.cancelled() => Outcome::Draining,
        };
        self.end(&context, &Arc::new(outcome)).await;
    }

    /// Until somebody asks this operation to stop.
    async fn cancelled(&self, context: &Context) {
        let mut sleeper = self.operations.wakes.on_operation(context.id);
        loop {
            sleeper.look();
            let row = storage::peek(self.operations.store.reader(), context.id).await;
            if matches!(row, Ok(Some(Row { cancel_requested: true, .. }))) {
                return;
            }
            // A database that is away now is asked again.
            let _ = timeout(RENEW, sleeper.woken()).await;
        }
    }

    /// Keeps the lease; until it is lost, or was not kept for so long that it may be.
    async fn lease_lost(&self, context: &Context) {
        let (mut kept, mut pause) = (Instant::now(), RENEW);
        loop {
            sleep(pause).await;
            // What is written counts from before it was written.
            let begun = Instant::now();
            match timeout_at(kept + GIVE_UP, self.renew(context)).await {
                Ok(Ok(true)) => (kept, pause) = (begun, RENEW),
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(_)) => pause = POLL,
            }
        }
    }

    async fn renew(&self, context: &Context) -> Result<bool, Error> {
        let store = &self.operations.store;
        let mut tx = store.begin().await?;
        let until = storage::now(&mut *tx, store.dialect()).await? + super::micros(LEASE);
        let kept = storage::renew(&mut tx, context.id, context.fence, until).await?;
        tx.commit().await?;
        Ok(kept)
    }

    /// Writes how an attempt ended, as long as the lease may still be ours.
    async fn end(&self, context: &Context, outcome: &Arc<Outcome>) {
        let start = Instant::now();
        let mut in_doubt = false;
        loop {
            match self.try_end(context, outcome).await {
                Ok(State::Pending) => return tracing::info!(operation = context.name(), "goes on later"),
                Ok(state) => return tracing::info!(operation = context.name(), ?state, "ended"),
                Err(Error::LeaseLost) if in_doubt && self.is_end_written(context).await => {
                    return tracing::info!(operation = context.name(), "ended");
                }
                Err(Error::LeaseLost) => {
                    return tracing::warn!(
                        operation = context.name(),
                        fence = context.fence,
                        "the lease was lost; what this worker did is not wanted any more"
                    );
                }
                Err(error) if start.elapsed() > GIVE_UP => {
                    return tracing::error!(operation = context.name(), %error, "cannot write how it ended");
                }
                Err(_) => {
                    in_doubt = true;
                    sleep(POLL).await;
                }
            }
        }
    }

    /// Whether the end of this attempt was committed by a database that went away before it could say so.
    async fn is_end_written(&self, context: &Context) -> bool {
        let row = storage::peek(self.operations.store.reader(), context.id).await;
        matches!(row, Ok(Some(row)) if row.fence == context.fence && row.state != State::Running)
    }

    async fn try_end(&self, context: &Context, outcome: &Arc<Outcome>) -> Result<State, Error> {
        let (ending, attempts) = (Arc::clone(outcome), self.kind.attempts);
        let edit = move |row: &mut Row, now| ending.apply(row, attempts, now);
        let row = context.edit(Change::State, outcome.bytes(), edit).await?;
        let state = row.map_or(State::Unspecified, |row| row.state);
        if let Outcome::Returned(Err(failure)) = &**outcome {
            let cause = std::error::Error::source(failure).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(operation = context.name(), ?state, cause, "attempt failed: {}", failure.message());
        }
        Ok(state)
    }
}

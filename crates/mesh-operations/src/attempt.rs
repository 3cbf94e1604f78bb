//! An attempt at an operation, the handle that work gets: progress, steps, idempotency keys.

use std::convert::Infallible;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_proto::mesh::operations::v1::{Change, Phase};
use mesh_rpc::call::Caller;
use mesh_store::{Connection, Error, Transaction};
use prost::{Message, Name};
use prost_types::Any;
use tokio::sync::{Notify, RwLock, RwLockReadGuard};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::batcher::Batcher;
use super::records::Records;
use super::row::Row;
use super::{changes, clock, name, steps, storage};

/// The shortest time between two writes of progress, and the longest delay of a report.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// One attempt at one operation. Work gets it while it runs.
pub struct Attempt {
    pub(super) records: Records,
    batcher: Batcher,
    pub(super) id: Uuid,
    pub(super) caller: Caller,
    pub(super) fence: i64,
    pub(super) attempt: i64,
    /// The phase of a saga when the attempt begins.
    pub(super) phase: Phase,
    progress: Mutex<Throttle>,
    /// Notified when progress waits to be written.
    progress_waits: Notify,
    /// Open steps hold a read lock. Waiting progress is not written meanwhile, since a step's progress is newer.
    steps: RwLock<()>,
}

/// The time of the last write of progress, and the progress that waits.
#[derive(Default)]
struct Throttle {
    written: Option<Instant>,
    waiting: Option<Arc<Vec<u8>>>,
}

impl Attempt {
    pub(super) fn new(records: Records, batcher: Batcher, row: &Row) -> Self {
        let (progress, progress_waits, steps) = (Mutex::default(), Notify::new(), RwLock::default());
        let (id, caller, fence, attempt) = (row.id, row.caller.clone(), row.fence, row.attempt);
        Self { records, batcher, id, caller, fence, attempt, phase: row.phase, progress, progress_waits, steps }
    }

    /// The operation's name.
    pub fn name(&self) -> String {
        name::format(self.records.service, self.id)
    }

    /// The caller that started the operation, which owns it. For the audit of what the work does; calls that the work
    /// makes are those of the service.
    pub fn owner(&self) -> &Caller {
        &self.caller
    }

    /// The number of the attempt, from 1. A drain does not count as an attempt.
    pub fn attempt(&self) -> i64 {
        self.attempt
    }

    /// A key for calls to other systems, the same in each attempt: the UUID of version 5 of the operation's id and the
    /// name of the step. Services of this mesh take it as `request_id`.
    pub fn idempotency_key(&self, step: &str) -> Uuid {
        Uuid::new_v5(&self.id, step.as_bytes())
    }

    /// Reports progress. Of the reports within 100 ms, the last one is written. Do not call this while a step is open:
    /// on SQLite the step holds the one writer.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`]: return from the work. [`Error::Unavailable`]: the call may be retried, and a later report
    /// or the end of the attempt writes the progress.
    pub async fn progress<P: Name>(&self, progress: &P) -> Result<(), Error> {
        {
            let mut throttle = self.throttle();
            throttle.waiting = Some(Arc::new(encode(progress)));
            if throttle.written.is_some_and(|written| written.elapsed() < PROGRESS_INTERVAL) {
                self.progress_waits.notify_one();
                return Ok(());
            }
            throttle.written = Some(Instant::now());
        }
        self.edit(Change::Progress, 0, |_, _| ()).await.map(drop)
    }

    /// Writes progress that has waited for 100 ms, as long as this is polled beside the work.
    pub(super) async fn write_waiting(&self) -> Infallible {
        loop {
            self.progress_waits.notified().await;
            sleep(PROGRESS_INTERVAL).await;
            if !self.try_write_waiting().await {
                self.progress_waits.notify_one();
            }
        }
    }

    /// Writes waiting progress, if there is any; false if the write has to be retried.
    async fn try_write_waiting(&self) -> bool {
        let Ok(_between_steps) = self.steps.try_write() else { return false };
        {
            let mut throttle = self.throttle();
            if throttle.waiting.is_none() {
                return true;
            }
            throttle.written = Some(Instant::now());
        }
        !matches!(self.edit(Change::Progress, 0, |_, _| ()).await, Err(Error::Unavailable(_)))
    }

    /// The result of a step, if this attempt or an earlier one has finished it.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], and the call may be retried; [`Error::Defect`] if the result does not decode as `R`.
    pub async fn finished<R: Message + Default>(&self, step: &str) -> Result<Option<R>, Error> {
        steps::finished(&self.records.store, self.id, step).await
    }

    /// Begins the transaction that finishes a step. Its rows, the result of the step and the progress commit together.
    /// Do the work before this call: on SQLite the transaction holds the one writer, and Postgres ends a transaction
    /// that is silent for 10 s.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`]; the call may be retried.
    pub async fn step<'a>(&'a self, name: &'a str) -> Result<Step<'a>, Error> {
        Ok(Step { change: self.change().await?, name })
    }

    /// Begins a transaction that changes the operation.
    pub(super) async fn change(&self) -> Result<Changing<'_>, Error> {
        let _open = self.steps.read().await;
        Ok(Changing { tx: self.records.store.begin().await?, attempt: self, _open })
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the operation through the write batcher, if this attempt still holds the lease. `bytes` is the size that
    /// `edit` adds; `edit` gets the row and the time. Returns the row after the change.
    pub(super) async fn edit(
        &self,
        change: Change,
        bytes: usize,
        edit: impl FnOnce(&mut Row, i64) + Send + 'static,
    ) -> Result<Option<Row>, Error> {
        let (fence, waiting) = (self.fence, self.throttle().waiting.clone());
        let written = waiting.clone();
        let edit = move |row: Option<&mut Row>, now: i64| {
            let row = row.filter(|row| row.is_held_under(fence)).ok_or(Error::LeaseLost)?;
            if let Some(written) = written {
                row.progress.clone_from(&written);
            }
            edit(row, now);
            Ok(Some(change))
        };
        let bytes = bytes + waiting.as_ref().map_or(0, |waiting| waiting.len());
        let edited = self.batcher.edit(self.id, bytes, edit).await;
        // After the write: if this future is dropped before, the end of the attempt writes the progress.
        if edited.is_ok() {
            self.throttle().waiting.take_if(|latest| waiting.is_some_and(|written| Arc::ptr_eq(latest, &written)));
        }
        edited
    }

    /// Changes the operation in a given transaction, if this attempt still holds the lease. Returns the time.
    async fn edit_in(&self, tx: &mut Transaction, edit: impl FnOnce(&mut Row, i64)) -> Result<i64, Error> {
        let Records { service, store, .. } = &self.records;
        let row = storage::lock(tx, &[self.id]).await?.pop();
        let mut row = row.filter(|row| row.is_held_under(self.fence)).ok_or(Error::LeaseLost)?;
        let now = clock::now(&mut **tx, store.dialect()).await?;
        let phase = row.phase;
        edit(&mut row, now);
        let change = if row.phase == phase { Change::Progress } else { Change::State };
        let mut changed = changes::Changed::new(service);
        changed.record(&mut row, change, now);
        changes::save(tx, changed).await?;
        self.records.notify_followers(tx, &[&row]);
        Ok(now)
    }
}

/// A transaction that changes the operation of an attempt.
pub(super) struct Changing<'a> {
    pub(super) tx: Transaction,
    pub(super) attempt: &'a Attempt,
    _open: RwLockReadGuard<'a, ()>,
}

impl Changing<'_> {
    /// Changes the operation, if the attempt still holds the lease, and returns the time. Locks its row: this comes
    /// before the writes that depend on the lease, or after those of the service.
    pub(super) async fn edit(&mut self, edit: impl FnOnce(&mut Row, i64)) -> Result<i64, Error> {
        self.attempt.edit_in(&mut self.tx, edit).await
    }

    pub(super) async fn commit(self) -> Result<(), Error> {
        self.tx.commit().await
    }
}

/// The transaction that finishes a step. Use it as a connection: `sqlx::query(…).execute(&mut *step)`.
pub struct Step<'a> {
    change: Changing<'a>,
    name: &'a str,
}

impl Step<'_> {
    /// Finishes the step. [`Attempt::finished`] returns `result` from now on, and `progress` is the progress of the
    /// operation.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`]: the step is rolled back; return from the work. [`Error::Unavailable`]: the step may be
    /// committed or not; return the error, and the next attempt asks [`Attempt::finished`].
    pub async fn commit(mut self, result: &impl Message, progress: &impl Name) -> Result<(), Error> {
        let Changing { tx, attempt, .. } = &mut self.change;
        let attempt = *attempt;
        steps::finish_step(tx, attempt.id, self.name, result.encode_to_vec()).await?;
        self.change.edit(|row, _| row.progress = encode(progress)).await?;
        self.change.commit().await?;
        // Waiting progress is older than the progress of the step.
        attempt.throttle().waiting = None;
        Ok(())
    }
}

impl Deref for Step<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.change.tx
    }
}

impl DerefMut for Step<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.change.tx
    }
}

impl AsMut<Transaction> for Step<'_> {
    fn as_mut(&mut self) -> &mut Transaction {
        &mut self.change.tx
    }
}

/// A message as an encoded `Any`.
fn encode(message: &impl Name) -> Vec<u8> {
    Any::from_msg(message).unwrap_or_default().encode_to_vec()
}

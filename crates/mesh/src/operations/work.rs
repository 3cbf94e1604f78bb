//! What the author of a service writes: an async function from a request to a response.
//!
//! ```ignore
//! impl Work for Render {
//!     const KIND: &'static str = "RenderArtwork";
//!     type Request = RenderArtworkRequest;
//!     type Response = RenderArtworkResponse;
//!     type Error = Error;
//!
//!     async fn run(&self, context: &Context, request: RenderArtworkRequest) -> Result<RenderArtworkResponse, Error> {
//!         …
//!     }
//! }
//! ```
//!
//! The future is dropped when the operation is cancelled, when its time is over, when the process drains, or when the
//! lease is lost: there is nothing to check and nothing to forget. What it has committed as steps stays, and is not
//! done again by the next attempt.

use std::convert::Infallible;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::{Message, Name};
use prost_types::Any;
use sqlx::AnyConnection;
use tokio::sync::{Notify, RwLock, RwLockReadGuard};
use tokio::time::{Instant, sleep};
use tonic::Status;
use uuid::Uuid;

use super::changes::{self, New};
use super::feed::Change;
use super::row::Row;
use super::storage;
use super::{Operations, Owner, name};
use crate::store::{self, Error, Transaction};

/// Progress that comes faster than this waits, for so long at most.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// One kind of long work.
pub trait Work: Send + Sync + 'static {
    /// What the work is called in logs and in the database; the name of the RPC that starts it is a good one. It must
    /// never change, for operations outlive processes.
    const KIND: &'static str;
    /// How long an operation may take in all, attempts and pauses included.
    const DEADLINE: Duration = Duration::from_secs(3600);
    /// How often it is begun before it fails for good. A drain does not count.
    const ATTEMPTS: u32 = 5;
    /// How many of these one process works on at the same time.
    const CONCURRENCY: usize = 2;

    /// What it is started with.
    type Request: Message + Default + 'static;
    /// What it ends with.
    type Response: Message + Name + 'static;
    /// How it fails. The status decides: UNAVAILABLE, ABORTED, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED, INTERNAL and
    /// UNKNOWN (and a panic) are tried again, anything else is final.
    type Error: Into<Status> + From<store::Error> + Send;

    /// Does it.
    fn run(
        &self,
        context: &Context,
        request: Self::Request,
    ) -> impl Future<Output = Result<Self::Response, Self::Error>> + Send;
}

/// A request to start an operation, under the id that makes a repeat harmless.
pub struct Start<'a, W: Work> {
    pub(super) request_id: &'a str,
    pub(super) request: &'a W::Request,
    pub(super) hash: Vec<u8>,
}

impl<'a, W: Work> Start<'a, W> {
    /// What is stored of it.
    ///
    /// # Errors
    ///
    /// [`Error::Defect`]: no database takes the id, and it has not been checked. Told here, because it would take along
    /// what is written with it.
    pub(super) fn to_new(&self) -> Result<New, Error> {
        if self.request_id.contains('\0') {
            return Err(Error::Defect(sqlx::Error::Encode("the request_id holds a NUL".into())));
        }
        Ok(New {
            owner: Owner::current(),
            kind: W::KIND.to_owned(),
            request_id: self.request_id.to_owned(),
            request_hash: self.hash.clone(),
            input: self.request.encode_to_vec(),
            deadline: W::DEADLINE,
        })
    }

    /// `request` is the whole of it: another one under the same id is refused.
    pub fn new(request_id: &'a str, request: &'a W::Request) -> Self {
        Self { request_id, request, hash: store::hash(W::KIND, request) }
    }
}

/// What work is handed while it runs: one attempt at one operation.
pub struct Context {
    pub(super) operations: Operations,
    pub(super) id: Uuid,
    pub(super) fence: i64,
    pub(super) attempt: i64,
    progress: Mutex<Throttle>,
    /// Tells that something waits.
    waits: Notify,
    /// Read by open steps. What waits is not told beside them: a step's progress is newer, and must not be overwritten.
    steps: RwLock<()>,
}

/// When progress was last written, and what has come since.
#[derive(Default)]
struct Throttle {
    written: Option<Instant>,
    waiting: Option<Arc<Vec<u8>>>,
}

impl Context {
    pub(super) fn new(operations: Operations, row: &Row) -> Self {
        let (progress, waits, steps) = (Mutex::default(), Notify::new(), RwLock::default());
        Self { operations, id: row.id, fence: row.fence, attempt: row.attempt, progress, waits, steps }
    }

    /// The operation's name.
    pub fn name(&self) -> String {
        name::format(self.operations.service, self.id)
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> i64 {
        self.attempt
    }

    /// What makes a call to somebody else harmless when a step is tried again.
    pub fn idempotency_key(&self, step: &str) -> String {
        format!("{}/{step}", self.name())
    }

    /// Tells how far it is. Told too often, some of it is left out, but the last never is. Not while a step is open: on
    /// SQLite its transaction has the one writer.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`], [`Error::Unavailable`].
    pub async fn progress<P: Name>(&self, progress: &P) -> Result<(), Error> {
        {
            let mut throttle = self.throttle();
            throttle.waiting = Some(Arc::new(encode(progress)));
            if throttle.written.is_some_and(|written| written.elapsed() < PROGRESS_EVERY) {
                self.waits.notify_one();
                return Ok(());
            }
            throttle.written = Some(Instant::now());
        }
        self.edit(Change::Progress, 0, |_, _| ()).await.map(drop)
    }

    /// Tells what waits when it has waited long enough, for as long as this is polled beside the work.
    pub(super) async fn tell_what_waits(&self) -> Infallible {
        loop {
            self.waits.notified().await;
            sleep(PROGRESS_EVERY).await;
            if !self.has_told().await {
                self.waits.notify_one();
            }
        }
    }

    /// Tells what waits, if anything still does; false if that has to be tried again.
    async fn has_told(&self) -> bool {
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

    /// What a step has left behind, if an earlier attempt, or this one, has finished it.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`]; [`Error::Defect`] if it left something else than an `R`.
    pub async fn finished<R: Message + Default>(&self, step: &str) -> Result<Option<R>, Error> {
        let Some(result) = storage::step(self.operations.store.reader(), self.id, step).await? else {
            return Ok(None);
        };
        R::decode(result.as_slice()).map(Some).map_err(|error| Error::Defect(sqlx::Error::Decode(error.into())))
    }

    /// Begins the transaction that finishes a step: what is written in it, and that the step is finished, happen
    /// together or not at all. Do the work first: on SQLite it has the one writer, for which all others wait, and Postgres
    /// ends it when it is silent for ten seconds.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`].
    pub async fn step<'a>(&'a self, name: &'a str) -> Result<Step<'a>, Error> {
        let _open = self.steps.read().await;
        Ok(Step { tx: self.operations.store.begin().await?, context: self, name, _open })
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the operation, if it is still this attempt's; `edit` brings so many bytes, and is told the time. The
    /// operation as it is then.
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
        let edited = self.operations.lane.edit(self.id, bytes, edit).await;
        // Only now: who is dropped while it is written leaves it to the end of the attempt.
        if edited.is_ok() {
            self.throttle().waiting.take_if(|latest| waiting.is_some_and(|written| Arc::ptr_eq(latest, &written)));
        }
        edited
    }

    /// The same in a transaction that does more.
    async fn edit_in(&self, tx: &mut Transaction, change: Change, edit: impl FnOnce(&mut Row)) -> Result<(), Error> {
        let Operations { service, store, .. } = &self.operations;
        let row = storage::lock(tx, store.dialect(), &[self.id]).await?.pop();
        let mut row = row.filter(|row| row.is_held_under(self.fence)).ok_or(Error::LeaseLost)?;
        let now = storage::now(&mut **tx, store.dialect()).await?;
        edit(&mut row);
        let mut changed = changes::Changed::new(service);
        changed.note(&mut row, change, now);
        changes::save(tx, store.dialect(), changed).await?;
        self.operations.wake_followers(tx, &[&row]);
        Ok(())
    }
}

/// The transaction that finishes a step. Use it as a connection: `sqlx::query(…).execute(&mut *step)`.
pub struct Step<'a> {
    tx: Transaction,
    context: &'a Context,
    name: &'a str,
    _open: RwLockReadGuard<'a, ()>,
}

impl Step<'_> {
    /// Finishes the step: `result` is what [`Context::finished`] gives from now on, `progress` how far the operation is
    /// with it.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`], [`Error::Unavailable`]; nothing of the step has happened then.
    pub async fn commit(mut self, result: &impl Message, progress: &impl Name) -> Result<(), Error> {
        storage::finish_step(&mut self.tx, self.context.id, self.name, result.encode_to_vec()).await?;
        self.context.edit_in(&mut self.tx, Change::Progress, |row| row.progress = encode(progress)).await?;
        self.tx.commit().await?;
        // What waits is older than this.
        self.context.throttle().waiting = None;
        Ok(())
    }
}

impl Deref for Step<'_> {
    type Target = AnyConnection;
    fn deref(&self) -> &AnyConnection {
        &self.tx
    }
}

impl DerefMut for Step<'_> {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.tx
    }
}

/// A message as an encoded `Any`.
fn encode(message: &impl Name) -> Vec<u8> {
    Any::from_msg(message).unwrap_or_default().encode_to_vec()
}

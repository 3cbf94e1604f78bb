//! Long work, and telling whoever asked for it when it is done.
//!
//! A caller starts an operation with a unary call and follows it by a stream. Service, caller and connection may die at
//! any moment, so nothing that matters lives in memory: an operation is a row, and every change of it is one more row
//! in a feed, written in the transaction that makes the change. From this everything else follows.
//!
//! 1. **What is told is read from the database.** A wake-up says only "look again" and carries nothing, so a lost one
//!    costs latency, never an event. Watchers take the wake-up first and read then: what is committed in between wakes
//!    them once more.
//! 2. **State, revision and feed row commit together.** Revisions of an operation are dense, under its row's lock; so a
//!    cursor is a revision, a resumed stream misses nothing, and a hole is recognised as one.
//! 3. **A worker holds a lease and a fence.** Every claim raises the fence, and every write of a worker is for its
//!    fence: one that was away for too long writes nothing, and learns it.
//! 4. **A step that was committed is not done again.** Its result and what it wrote are one transaction.
//! 5. **The end comes once.** A done operation never changes, and has a response or an error.
//! 6. **Who asks is not in the request.** An operation belongs to an [`Owner`]; to others it does not exist.
//!
//! Rooms: [`work`] is what the author of a service writes; `row` is an operation, `schema` its tables, `storage` reads
//! and `changes` writes them, `lane` writes together what comes together, `list` is what is listed, `feed` what has
//! become of it; `worker` claims and runs, `outcome` says what the end of an attempt means, and `overdue` ends what
//! nobody does; `stream` is what all streams have in common, `patience` lets go of those that nobody reads, `watch`
//! follows one operation, `subscribe` all of an owner, by a `reader` that they share; `api` serves the contract,
//! `retry` begins once more; `wake` wakes; `retention` forgets, and `epoch` tells a database from the one it was before
//! a backup was restored.

mod api;
mod changes;
mod epoch;
pub(crate) mod feed;
mod lane;
mod list;
mod name;
mod outcome;
mod overdue;
mod patience;
mod reader;
mod retention;
mod retry;
mod row;
mod schema;
mod storage;
mod stream;
mod subscribe;
mod wake;
mod watch;
pub mod work;
mod worker;

use std::collections::HashSet;

use mesh_proto::google::longrunning::Operation;
use sqlx::AnyExecutor;

pub(crate) use api::serve;
pub(crate) use epoch::renew_epoch;
pub(crate) use overdue::end_overdue;
pub(crate) use retention::forget;
pub(crate) use schema::SCHEMA;
pub(crate) use wake::Wakes;
pub use work::{Context, Work};
pub(crate) use worker::{Kind, Workers};

use crate::store::{self, Store, Transaction};
pub(crate) use lane::Queue;

use changes::New;
use lane::Lane;
use patience::Patience;
use reader::Readers;
use row::Row;
use work::Start;

/// Who operations belong to: the caller's identity.
///
/// There is no authentication yet, so there is one owner, and it is anonymous. It is decided here and nowhere else.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub(crate) struct Owner(String);

impl Owner {
    /// The caller of the RPC that this task is handling.
    pub(crate) fn current() -> Self {
        #[cfg(feature = "testing")]
        if let Some(pretended) = crate::testing::pretended_owner() {
            return Self(pretended);
        }
        Self("anonymous".to_owned())
    }
}

/// The operations of one service. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    service: &'static str,
    store: Store,
    wakes: Wakes,
    patience: Patience,
    readers: Readers,
    lane: Lane,
}

impl Operations {
    /// With the queue of their changes, which somebody has to [write](Queue::write).
    pub(crate) fn new(service: &'static str, store: Store, wakes: Wakes) -> (Self, Queue) {
        let (lane, queue) = lane::lane();
        let (patience, readers) = (Patience::default(), Readers::default());
        (Self { service, store, wakes, patience, readers, lane }, queue)
    }

    /// The operation that this request started before, if it did. Asks nothing else, so a repeat is answered even if
    /// what the first needed is gone.
    ///
    /// # Errors
    ///
    /// [`store::Error::RequestIdReused`] if the id came with another request; [`store::Error::Unavailable`].
    pub async fn started<W: Work>(&self, start: &Start<'_, W>) -> Result<Option<Operation>, store::Error> {
        self.find(self.store.reader(), W::KIND, start.request_id, &start.hash).await
    }

    /// Starts an operation, or finds the one that the same request started before. When this returns, it is durable.
    ///
    /// # Errors
    ///
    /// As for [`started`](Self::started).
    pub async fn start<W: Work>(&self, start: &Start<'_, W>) -> Result<Operation, store::Error> {
        self.start_or_find(start.to_new()?).await
    }

    async fn start_or_find(&self, new: New) -> Result<Operation, store::Error> {
        let (kind, request_id, hash) = (new.kind.clone(), new.request_id.clone(), new.request_hash.clone());
        match self.lane.start(new).await? {
            Some(row) => Ok(row.to_operation(self.service)),
            None => self.find(self.store.reader(), &kind, &request_id, &hash).await?.ok_or_else(forgotten),
        }
    }

    /// The same in the transaction that holds whatever else belongs to it: rows of the service's own. It is begun once
    /// that is committed.
    ///
    /// # Errors
    ///
    /// As for [`started`](Self::started).
    pub async fn start_in<W: Work>(
        &self,
        tx: &mut Transaction,
        start: &Start<'_, W>,
    ) -> Result<Operation, store::Error> {
        let dialect = self.store.dialect();
        let now = storage::now(&mut **tx, dialect).await?;
        let started = changes::insert(tx, dialect, self.service, vec![start.to_new()?], now).await?;
        match started.into_iter().flatten().next() {
            Some(row) => {
                let (wakes, service) = (self.wakes.clone(), self.service);
                tx.once_committed(move || wakes.work(service, W::KIND));
                self.wake_followers(tx, &[&row]);
                Ok(row.to_operation(self.service))
            }
            None => self.find(&mut **tx, W::KIND, start.request_id, &start.hash).await?.ok_or_else(forgotten),
        }
    }

    /// Looks for changes that nobody was woken for, and for streams that nobody reads. Never ends by itself.
    pub(crate) async fn poll(self) {
        tokio::join!(self.wakes.poll(self.service, &self.store), self.patience.sweep());
    }

    /// Wakes who follows operations, once what has become of them is committed.
    fn wake_followers(&self, tx: &mut Transaction, rows: &[&Row]) {
        let (wakes, service) = (self.wakes.clone(), self.service);
        let operations: Vec<_> = rows.iter().map(|row| row.id).collect();
        let owners: HashSet<_> = rows.iter().map(|row| row.owner.clone()).collect();
        tx.once_committed(move || {
            operations.into_iter().for_each(|id| wakes.operation(id));
            owners.iter().for_each(|owner| wakes.feed(service, owner));
        });
    }

    async fn find(
        &self,
        database: impl AnyExecutor<'_>,
        kind: &str,
        request_id: &str,
        hash: &[u8],
    ) -> Result<Option<Operation>, store::Error> {
        let found = storage::by_request(database, &Owner::current(), kind, request_id).await?;
        match found {
            Some((_, before)) if before != hash => Err(store::Error::RequestIdReused),
            Some((row, _)) => Ok(Some(row.to_operation(self.service))),
            None => Ok(None),
        }
    }
}

/// Nothing is deleted under an id that was just found taken, but by somebody who was faster.
fn forgotten() -> store::Error {
    store::Error::Unavailable(sqlx::Error::RowNotFound)
}

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 2)
}

//! The handle that a service has to its operations: start one, or find the one of an earlier request.

use mesh_feed::notifier::Notifier;
use mesh_feed::reader::Readers;
use mesh_feed::watchdog::Watchdog;
use mesh_proto::google::longrunning::Operation;
use mesh_rpc::call::{Caller, Context};
use mesh_store::{Error, Store, Transaction};
use sqlx::AnyExecutor;
use uuid::Uuid;

use super::batcher::{Batcher, Queue, batcher};
use super::changes::{self, New};
use super::records::Records;
use super::sources::{Feed, History};
use super::start::Start;
use super::{clock, poll, storage};

/// The operations of one service. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    pub(super) records: Records,
    pub(super) batcher: Batcher,
    pub(super) watchdog: Watchdog,
    pub(super) histories: Readers<History>,
    pub(super) feeds: Readers<Feed>,
}

impl Operations {
    /// The operations in a service's database, and the queue of their changes. Run [`Queue::write`] in a task: without
    /// it, a start never returns.
    pub fn new(service: &'static str, store: Store, notifier: Notifier) -> (Self, Queue) {
        let records = Records { service, store, notifier };
        let (batcher, queue) = batcher(records.clone());
        let (watchdog, histories, feeds) = (Watchdog::default(), Readers::default(), Readers::default());
        (Self { records, batcher, watchdog, histories, feeds }, queue)
    }

    /// The operation that an earlier request with the same `request_id` started, if there is one. Call this before the
    /// checks of a request: a repeat is then answered even if the checks would fail by now.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`] if the id belongs to a different request; do not retry. [`Error::Unavailable`]; the
    /// call may be retried.
    pub async fn started<W>(&self, start: &Start<'_, W>) -> Result<Option<Operation>, Error> {
        self.find(self.records.store.reader(), &Context::caller(), start.kind, start.request_id, &start.hash).await
    }

    /// Starts an operation, or finds the one that an earlier request with the same `request_id` started. The operation
    /// is durable when this returns.
    ///
    /// # Errors
    ///
    /// As for [`started`](Self::started).
    pub async fn start<W>(&self, start: &Start<'_, W>) -> Result<Operation, Error> {
        self.start_or_find(start.to_new()).await
    }

    pub(super) async fn start_or_find(&self, new: New) -> Result<Operation, Error> {
        let (kind, request_id, hash) = (new.kind.clone(), new.request_id, new.request_hash.clone());
        // An operator starts one of another owner.
        let owner = new.caller.clone();
        match self.batcher.start(new).await? {
            Some(row) => Ok(row.to_operation(self.records.service)),
            None => {
                let found = self.find(self.records.store.reader(), &owner, &kind, request_id, &hash).await?;
                found.ok_or_else(deleted_meanwhile)
            }
        }
    }

    /// Starts an operation in a transaction with rows of the service. A worker claims it after the commit.
    ///
    /// # Errors
    ///
    /// As for [`started`](Self::started); retry the whole transaction.
    pub async fn start_in<W>(&self, tx: &mut Transaction, start: &Start<'_, W>) -> Result<Operation, Error> {
        let dialect = tx.dialect();
        let now = clock::now(&mut **tx, dialect).await?;
        let started = changes::insert(tx, self.records.service, vec![start.to_new()], now).await?;
        match started.into_iter().flatten().next() {
            Some(row) => {
                self.records.notify_workers(tx, [start.kind.to_owned()].into());
                self.records.notify_followers(tx, &[&row]);
                Ok(row.to_operation(self.records.service))
            }
            None => {
                let found = self.find(&mut **tx, &Context::caller(), start.kind, start.request_id, &start.hash).await?;
                found.ok_or_else(deleted_meanwhile)
            }
        }
    }

    /// Finds changes by other processes, and disconnects slow consumers. Never ends by itself.
    pub async fn poll(self) {
        tokio::join!(poll::poll(&self.records), self.watchdog.sweep());
    }

    async fn find(
        &self,
        database: impl AnyExecutor<'_>,
        owner: &Caller,
        kind: &str,
        request_id: Uuid,
        hash: &[u8],
    ) -> Result<Option<Operation>, Error> {
        let found = storage::by_request(database, owner, kind, request_id).await?;
        match found {
            Some((_, before)) if before != hash => Err(Error::RequestIdReused),
            Some((row, _)) => Ok(Some(row.to_operation(self.records.service))),
            None => Ok(None),
        }
    }
}

/// The insert found the id in use, and its operation was deleted before the read. A retry starts a new operation.
fn deleted_meanwhile() -> Error {
    Error::unavailable(mesh_store::Condition::Busy, sqlx::Error::RowNotFound)
}

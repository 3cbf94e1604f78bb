//! The write batcher: writes changes of operations that arrive at the same time together.
//!
//! Most changes bring no rows of the service: a start, the end of an attempt, a cancellation. One task a store takes
//! the waiting changes, up to a bound, and writes them in one transaction with one statement a table. The next batch
//! gathers while that transaction commits. A change that arrives alone is written at once.
//!
//! A change is a function of the locked row, and may refuse. A large change shares its batch with few others: the rows
//! of a statement are sent as text, at several times their size.
//!
//! Guarantees:
//! - The caller of a change waits for its commit.
//! - A caller that is dropped does not undo its change: the change is absent or complete.
//!
//! See: docs/decisions/0006-two-ways-to-write-an-operation.md

use std::collections::{HashMap, HashSet};
use std::iter::Peekable;

use mesh_proto::mesh::operations::v1::Change;
use mesh_store::Error;
use sqlx::Error as SqlError;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::changes::{self, New};
use super::records::Records;
use super::row::Row;
use super::{clock, storage};

/// The most changes of a batch, and the most bytes. A single change may have more bytes.
const MAX_CHANGES: usize = 64;
const MAX_BYTES: usize = 1024 * 1024;
/// The most changes in the queue. Further callers wait for space in it.
const QUEUE: usize = 1024;

/// Changes a row, given the time; returns the type of the change for the feed, or `None` if it changes nothing. The row
/// is `None` if it does not exist.
type Edit = Box<dyn FnOnce(Option<&mut Row>, i64) -> Result<Option<Change>, Error> + Send>;

enum Item {
    Start(New, oneshot::Sender<Result<Option<Row>, Error>>),
    Edit(Uuid, usize, Edit, oneshot::Sender<Result<Option<Row>, Error>>),
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Start(new, _) => new.input.len(),
            Self::Edit(_, bytes, ..) => *bytes,
        }
    }
}

/// Sends changes to the queue. Cheap to clone.
#[derive(Clone)]
pub(super) struct Batcher(mpsc::Sender<Item>);

/// The changes that wait to be written. [`write`](Self::write) must run for as long as the service does.
pub struct Queue {
    items: mpsc::Receiver<Item>,
    records: Records,
}

pub(super) fn batcher(records: Records) -> (Batcher, Queue) {
    let (sender, items) = mpsc::channel(QUEUE);
    (Batcher(sender), Queue { items, records })
}

impl Batcher {
    /// Stores a new operation; `None` if its request has already started one.
    pub(super) async fn start(&self, new: New) -> Result<Option<Row>, Error> {
        self.send(|reply| Item::Start(new, reply)).await
    }

    /// Changes an operation and returns the row after the change. `bytes` is the approximate size that `edit` adds.
    pub(super) async fn edit(
        &self,
        id: Uuid,
        bytes: usize,
        edit: impl FnOnce(Option<&mut Row>, i64) -> Result<Option<Change>, Error> + Send + 'static,
    ) -> Result<Option<Row>, Error> {
        self.send(|reply| Item::Edit(id, bytes, Box::new(edit), reply)).await
    }

    async fn send<T>(&self, item: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Item) -> Result<T, Error> {
        let gone = || Error::from(SqlError::PoolClosed);
        let (reply, answer) = oneshot::channel();
        self.0.send(item(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Queue {
    /// Writes changes until the last [`Operations`](super::Operations) is dropped.
    pub async fn write(mut self) {
        let mut items = Vec::with_capacity(MAX_CHANGES);
        while self.items.recv_many(&mut items, MAX_CHANGES).await > 0 {
            let mut items = items.drain(..).peekable();
            while items.peek().is_some() {
                let (batch, callers) = Batch::take(&mut items);
                match batch.write(&self.records).await {
                    Ok(written) => callers.answer(written),
                    Err(error) => callers.fail(&error),
                }
            }
        }
    }
}

/// The changes of one transaction, without their callers.
struct Batch {
    starts: Vec<New>,
    edits: Vec<(Uuid, Edit)>,
}

/// The callers of a batch, in the same order.
struct Callers {
    starts: Vec<oneshot::Sender<Result<Option<Row>, Error>>>,
    edits: Vec<oneshot::Sender<Result<Option<Row>, Error>>>,
}

/// The result of each change.
struct Written {
    starts: Vec<Option<Row>>,
    edits: Vec<Result<Option<Row>, Error>>,
}

impl Batch {
    /// Takes the first change, and those behind it that fit.
    fn take(items: &mut Peekable<impl Iterator<Item = Item>>) -> (Self, Callers) {
        let mut batch = Self { starts: Vec::new(), edits: Vec::new() };
        let mut callers = Callers { starts: Vec::new(), edits: Vec::new() };
        let mut space = None;
        while let Some(item) = items.next_if(|next| space.is_none_or(|space| next.bytes() <= space)) {
            space = Some(space.unwrap_or(MAX_BYTES).saturating_sub(item.bytes()));
            match item {
                Item::Start(new, reply) => {
                    batch.starts.push(new);
                    callers.starts.push(reply);
                }
                Item::Edit(id, _, edit, reply) => {
                    batch.edits.push((id, edit));
                    callers.edits.push(reply);
                }
            }
        }
        (batch, callers)
    }

    async fn write(self, records: &Records) -> Result<Written, Error> {
        let Records { service, store, .. } = records;
        let mut tx = store.begin().await?;
        let now = clock::now(&mut *tx, store.dialect()).await?;
        let starts = changes::insert(&mut tx, service, self.starts, now).await?;
        let kinds: HashSet<_> = starts.iter().flatten().map(|row| row.kind.clone()).collect();
        records.notify_workers(&mut tx, kinds);
        records.notify_followers(&mut tx, &starts.iter().flatten().collect::<Vec<_>>());

        let ids: Vec<_> = self.edits.iter().map(|(id, _)| *id).collect();
        let locked = storage::lock(&mut tx, &ids).await?;
        let mut rows: HashMap<_, _> = locked.into_iter().map(|row| (row.id, row)).collect();
        let mut changed = changes::Changed::new(service);
        let edits = self.edits.into_iter().map(|(id, edit)| apply(rows.get_mut(&id), edit, now, &mut changed));
        let edits = edits.collect();
        records.notify_followers(&mut tx, &changed.rows());
        changes::save(&mut tx, changed).await?;
        tx.commit().await?;
        Ok(Written { starts, edits })
    }
}

/// Applies an edit to a row and records the change.
fn apply(row: Option<&mut Row>, edit: Edit, now: i64, changed: &mut changes::Changed) -> Result<Option<Row>, Error> {
    let Some(row) = row else { return edit(None, now).map(|_| None) };
    // An edit that refuses, or changes nothing, leaves no trace for the next one of this batch.
    let mut edited = row.clone();
    if let Some(change) = edit(Some(&mut edited), now)? {
        changed.record(&mut edited, change, now);
        *row = edited;
    }
    Ok(Some(row.clone()))
}

impl Callers {
    /// Answers each caller. A caller that was dropped has no receiver.
    fn answer(self, written: Written) {
        for (waiting, row) in self.starts.into_iter().zip(written.starts) {
            let _ = waiting.send(Ok(row));
        }
        for (waiting, result) in self.edits.into_iter().zip(written.edits) {
            let _ = waiting.send(result);
        }
    }

    fn fail(self, error: &Error) {
        for waiting in self.starts {
            let _ = waiting.send(Err(error.duplicate()));
        }
        for waiting in self.edits {
            let _ = waiting.send(Err(error.duplicate()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_is_bounded_by_bytes_and_never_empty() {
        let edit = |bytes| Item::Edit(Uuid::nil(), bytes, Box::new(|_, _| Ok(None)), oneshot::channel().0);
        let sizes = [10, 3 * MAX_BYTES, 0, MAX_BYTES - 1, 1, 1];
        let mut items = sizes.map(edit).into_iter().peekable();
        let batches = std::iter::from_fn(|| items.peek().is_some().then(|| Batch::take(&mut items).0.edits.len()));
        assert_eq!(batches.collect::<Vec<_>>(), [1, 2, 2, 1]);
    }
}

//! The write batcher: changes of operations that need no transaction of their own are written together.
//!
//! Most changes bring no rows of the service's: a start, the end of an attempt, a cancellation. One task a store takes as
//! many of them as wait, up to a bound, and writes them in one transaction with one statement a table. While that becomes
//! durable, the next batch gathers. A change that comes alone does not wait.
//!
//! A change is a function of the row under its lock, and may refuse. Its caller waits for the commit; a caller that leaves
//! does not undo the change, so the change is absent or complete.
//!
//! A large change is written with few others: the rows of a statement travel as text, several times their size.

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

/// The changes of a batch, and their bytes, unless one alone has more.
const MOST: usize = 64;
const MOST_BYTES: usize = 1024 * 1024;
/// The changes that wait. Beyond that, callers wait to queue.
const QUEUE: usize = 1024;

/// What a change does to a row: nothing, or something for the feed. `None` is a row that is not there.
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

/// Where changes queue. Cheap to clone.
#[derive(Clone)]
pub(super) struct Batcher(mpsc::Sender<Item>);

/// The changes that wait to be written.
pub struct Queue {
    items: mpsc::Receiver<Item>,
    records: Records,
}

pub(super) fn batcher(records: Records) -> (Batcher, Queue) {
    let (sender, items) = mpsc::channel(QUEUE);
    (Batcher(sender), Queue { items, records })
}

impl Batcher {
    /// Starts an operation; `None` if its request has started one already.
    pub(super) async fn start(&self, new: New) -> Result<Option<Row>, Error> {
        self.send(|reply| Item::Start(new, reply)).await
    }

    /// Changes an operation, to which that brings about so many bytes; as it is then.
    pub(super) async fn edit(
        &self,
        id: Uuid,
        bytes: usize,
        edit: impl FnOnce(Option<&mut Row>, i64) -> Result<Option<Change>, Error> + Send + 'static,
    ) -> Result<Option<Row>, Error> {
        self.send(|reply| Item::Edit(id, bytes, Box::new(edit), reply)).await
    }

    async fn send<T>(&self, item: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Item) -> Result<T, Error> {
        let gone = || Error::Unavailable(SqlError::PoolClosed);
        let (reply, answer) = oneshot::channel();
        self.0.send(item(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Queue {
    /// Writes what comes, until each [`Operations`](super::Operations) is dropped.
    pub async fn write(mut self) {
        let mut items = Vec::with_capacity(MOST);
        while self.items.recv_many(&mut items, MOST).await > 0 {
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

/// What is written together, without its callers.
struct Batch {
    starts: Vec<New>,
    edits: Vec<(Uuid, Edit)>,
}

/// The callers of a batch, in its order.
struct Callers {
    starts: Vec<oneshot::Sender<Result<Option<Row>, Error>>>,
    edits: Vec<oneshot::Sender<Result<Option<Row>, Error>>>,
}

/// What became of each.
struct Written {
    starts: Vec<Option<Row>>,
    edits: Vec<Result<Option<Row>, Error>>,
}

impl Batch {
    /// The first of them, and those behind it that fit in.
    fn take(items: &mut Peekable<impl Iterator<Item = Item>>) -> (Self, Callers) {
        let mut batch = Self { starts: Vec::new(), edits: Vec::new() };
        let mut callers = Callers { starts: Vec::new(), edits: Vec::new() };
        let mut room = None;
        while let Some(item) = items.next_if(|next| room.is_none_or(|room| next.bytes() <= room)) {
            room = Some(room.unwrap_or(MOST_BYTES).saturating_sub(item.bytes()));
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

/// Applies an edit to a row, and notes the change.
fn apply(row: Option<&mut Row>, edit: Edit, now: i64, changed: &mut changes::Changed) -> Result<Option<Row>, Error> {
    let Some(row) = row else { return edit(None, now).map(|_| None) };
    // An edit that refuses, or changes nothing, leaves no trace for the next one of this batch.
    let mut edited = row.clone();
    if let Some(change) = edit(Some(&mut edited), now)? {
        changed.note(&mut edited, change, now);
        *row = edited;
    }
    Ok(Some(row.clone()))
}

impl Callers {
    /// A caller that has left is not answered.
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
        let sizes = [10, 3 * MOST_BYTES, 0, MOST_BYTES - 1, 1, 1];
        let mut items = sizes.map(edit).into_iter().peekable();
        let batches = std::iter::from_fn(|| items.peek().is_some().then(|| Batch::take(&mut items).0.edits.len()));
        assert_eq!(batches.collect::<Vec<_>>(), [1, 2, 2, 1]);
    }
}

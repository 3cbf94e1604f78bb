//! The lane: changes of operations that need no transaction of their own, written together.
//!
//! Most changes of operations bring no rows of the service's: a start, the end of an attempt, a cancellation. One task a
//! store takes as many of them as wait, up to a bound, and writes them in one transaction with one statement a table.
//! While that becomes durable, the next gather. A change that comes alone waits for nobody.
//!
//! A change says what it wants by a function of the row as it is under its lock, which may refuse. What it waits for is
//! the commit; if it stops waiting, the change is made all the same, so a caller that goes away leaves all of it or
//! nothing.
//!
//! What is large is written with little else: the rows of a statement are text on their way to it, several times their
//! size.

use std::collections::{HashMap, HashSet};
use std::iter::Peekable;

use sqlx::Error as SqlError;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::Operations;
use super::changes::{self, New};
use super::feed::Change;
use super::row::Row;
use super::storage;
use crate::store::Error;

/// How many are written together at most, and how many bytes of theirs, unless one alone has more.
const MOST: usize = 64;
const MOST_BYTES: usize = 1024 * 1024;
/// How many may wait: whoever comes then waits to wait.
const QUEUE: usize = 1024;

/// What a change does to a row: nothing, or something to tell. `None` is a row that is not there.
pub(super) type Edit = Box<dyn FnOnce(Option<&mut Row>, i64) -> Result<Option<Change>, Error> + Send>;

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
pub(super) struct Lane(mpsc::Sender<Item>);

/// The other end.
pub(crate) struct Queue(mpsc::Receiver<Item>);

pub(super) fn lane() -> (Lane, Queue) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Lane(sender), Queue(receiver))
}

impl Lane {
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
    /// Writes what comes. Never ends by itself.
    pub(crate) async fn write(mut self, operations: Operations) {
        let mut items = Vec::with_capacity(MOST);
        while self.0.recv_many(&mut items, MOST).await > 0 {
            let mut items = items.drain(..).peekable();
            while items.peek().is_some() {
                let (batch, waiting) = Batch::take(&mut items);
                match batch.write(&operations).await {
                    Ok(written) => waiting.answer(written),
                    Err(error) => waiting.fail(&error),
                }
            }
        }
    }
}

/// What is written together, without those who wait for it.
struct Batch {
    starts: Vec<New>,
    edits: Vec<(Uuid, Edit)>,
}

/// Who waits, in the order of what they wait for.
struct Waiting {
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
    fn take(items: &mut Peekable<impl Iterator<Item = Item>>) -> (Self, Waiting) {
        let mut batch = Self { starts: Vec::new(), edits: Vec::new() };
        let mut waiting = Waiting { starts: Vec::new(), edits: Vec::new() };
        let mut room = None;
        while let Some(item) = items.next_if(|next| room.is_none_or(|room| next.bytes() <= room)) {
            room = Some(room.unwrap_or(MOST_BYTES).saturating_sub(item.bytes()));
            match item {
                Item::Start(new, reply) => {
                    batch.starts.push(new);
                    waiting.starts.push(reply);
                }
                Item::Edit(id, _, edit, reply) => {
                    batch.edits.push((id, edit));
                    waiting.edits.push(reply);
                }
            }
        }
        (batch, waiting)
    }

    async fn write(self, operations: &Operations) -> Result<Written, Error> {
        let Operations { service, store, wakes, .. } = operations;
        let mut tx = store.begin().await?;
        let now = storage::now(&mut *tx, store.dialect()).await?;
        let starts = changes::insert(&mut tx, store.dialect(), service, self.starts, now).await?;
        let kinds: HashSet<_> = starts.iter().flatten().map(|row| row.kind.clone()).collect();
        let (wakes, of) = (wakes.clone(), *service);
        tx.once_committed(move || kinds.iter().for_each(|kind| wakes.work(of, kind)));
        operations.wake_followers(&mut tx, &starts.iter().flatten().collect::<Vec<_>>());

        let ids: Vec<_> = self.edits.iter().map(|(id, _)| *id).collect();
        let locked = storage::lock(&mut tx, store.dialect(), &ids).await?;
        let mut rows: HashMap<_, _> = locked.into_iter().map(|row| (row.id, row)).collect();
        let mut changed = changes::Changed::new(service);
        let edits = self.edits.into_iter().map(|(id, edit)| apply(rows.get_mut(&id), edit, now, &mut changed));
        let edits = edits.collect();
        operations.wake_followers(&mut tx, &changed.rows());
        changes::save(&mut tx, store.dialect(), changed).await?;
        tx.commit().await?;
        Ok(Written { starts, edits })
    }
}

/// Lets an edit have its way with a row, and notes what became of it.
fn apply(row: Option<&mut Row>, edit: Edit, now: i64, changed: &mut changes::Changed) -> Result<Option<Row>, Error> {
    let Some(row) = row else { return edit(None, now).map(|_| None) };
    // What is refused, or nothing to tell, leaves no trace for the next one of this batch.
    let mut edited = row.clone();
    if let Some(change) = edit(Some(&mut edited), now)? {
        changed.note(&mut edited, change, now);
        *row = edited;
    }
    Ok(Some(row.clone()))
}

impl Waiting {
    /// Whoever does not wait any more does not want to know.
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
            let _ = waiting.send(Err(error.again()));
        }
        for waiting in self.edits {
            let _ = waiting.send(Err(error.again()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_by_its_bytes_and_never_empty() {
        let edit = |bytes| Item::Edit(Uuid::nil(), bytes, Box::new(|_, _| Ok(None)), oneshot::channel().0);
        let sizes = [10, 3 * MOST_BYTES, 0, MOST_BYTES - 1, 1, 1];
        let mut items = sizes.map(edit).into_iter().peekable();
        let batches = std::iter::from_fn(|| items.peek().is_some().then(|| Batch::take(&mut items).0.edits.len()));
        assert_eq!(batches.collect::<Vec<_>>(), [1, 2, 2, 1]);
    }
}

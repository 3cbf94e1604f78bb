//! The open transactions of a store, and the tasks that use them: finds a task that waits for itself.
//!
//! A task that begins a transaction while it holds one may wait for the end of its own transaction, which never comes.
//! A wait by such a task is watched: if its open transaction does nothing for [`IDLE`], the wait ends with a defect.
//!
//! One task may run two transactions at a time, as with `join!`; each of them makes progress, so neither is idle. A
//! transaction belongs to the task that used it last.

use std::panic::Location;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use tokio::time::sleep;

/// The time without a statement after which an open transaction counts as idle.
const IDLE: Duration = Duration::from_millis(50);

/// A place in the code where a transaction begins.
pub(super) type Place = &'static Location<'static>;

/// The open transactions of a store. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Holders(Arc<Mutex<Vec<Arc<Holder>>>>);

/// An open transaction.
#[derive(Debug)]
pub(super) struct Holder {
    place: Place,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    task: Task,
    /// Whether a statement runs.
    running: bool,
    /// The number of statements so far.
    statements: u64,
}

/// A task of tokio, or a thread that blocks on a future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Spawned(tokio::task::Id),
    Thread(ThreadId),
}

impl Task {
    fn current() -> Self {
        tokio::task::try_id().map_or_else(|| Self::Thread(std::thread::current().id()), Self::Spawned)
    }
}

/// The entry of an open transaction. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    holders: Holders,
    holder: Arc<Holder>,
}

impl Holders {
    /// Enters a transaction that this task has begun.
    pub(super) fn enter(&self, place: Place) -> Held {
        let state = State { task: Task::current(), running: false, statements: 0 };
        let holder = Arc::new(Holder { place, state: Mutex::new(state) });
        lock(&self.0).push(Arc::clone(&holder));
        Held { holders: self.clone(), holder }
    }

    /// Waits for `turn`, for the transaction or the read at `place`.
    ///
    /// # Errors
    ///
    /// [`PoolTimedOut`](sqlx::Error::PoolTimedOut) after `limit`. [`AnyDriverError`](sqlx::Error::AnyDriverError) if
    /// the task waits for a transaction of its own.
    pub(super) async fn wait<T>(
        &self,
        limit: Duration,
        place: Place,
        turn: impl Future<Output = T>,
    ) -> sqlx::Result<T> {
        tokio::select! {
            biased;
            value = pin!(turn) => Ok(value),
            outer = self.idle_in_this_task() => Err(nested(outer, place)),
            () = sleep(limit) => Err(sqlx::Error::PoolTimedOut),
        }
    }

    /// The place of a transaction of this task that stays idle. Pending if there is none.
    async fn idle_in_this_task(&self) -> Place {
        let task = Task::current();
        let idle = || {
            lock(&self.0)
                .iter()
                .map(|holder| (holder.place, *lock(&holder.state)))
                .find(|(_, state)| state.task == task && !state.running)
        };
        loop {
            let Some(before) = idle() else { return std::future::pending().await };
            sleep(IDLE).await;
            if idle().is_some_and(|now| now == before) {
                return before.0;
            }
        }
    }
}

fn nested(outer: Place, inner: Place) -> sqlx::Error {
    let message = format!(
        "{inner} waits for a connection, and the same task holds the transaction begun at {outer}, which does nothing: \
         pass that transaction on, or end it first"
    );
    sqlx::Error::AnyDriverError(message.into())
}

impl Held {
    pub(super) fn holder(&self) -> Arc<Holder> {
        Arc::clone(&self.holder)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.holders.0).retain(|holder| !Arc::ptr_eq(holder, &self.holder));
    }
}

impl Holder {
    pub(super) fn statement_begins(&self) {
        let mut state = lock(&self.state);
        *state = State { task: Task::current(), running: true, statements: state.statements + 1 };
    }

    pub(super) fn statement_ends(&self) {
        lock(&self.state).running = false;
    }
}

/// No code panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Condition, Database, Error, Migration, Store, Transaction, open};
    use sqlx::Connection as _;
    use tokio::time::Instant;

    const SCHEMA: &[Migration] =
        &[Migration::new(1, "things", "CREATE TABLE things (id BIGINT NOT NULL PRIMARY KEY);")];

    async fn store() -> (Store, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("things.db"));
        (open("things", &database, &[], SCHEMA).await.unwrap(), folder)
    }

    async fn insert(tx: &mut Transaction, id: i64) {
        sqlx::query("INSERT INTO things (id) VALUES ($1)").bind(id).execute(&mut **tx).await.unwrap();
    }

    /// Begins a transaction inside another; checks that the error names both.
    async fn nest(store: Store, id: i64) {
        let outer_line = line!() + 1;
        let mut outer = store.begin().await.unwrap();
        insert(&mut outer, id).await;
        let started = Instant::now();
        let inner_line = line!() + 1;
        let inner = store.begin().await;
        let Err(Error::Defect(cause)) = inner.map(drop) else { panic!("a nested begin must be a defect") };
        assert!(started.elapsed() < Duration::from_secs(1), "detected after {:?}", started.elapsed());
        for line in [outer_line, inner_line] {
            assert!(cause.to_string().contains(&format!("holders.rs:{line}:")), "{cause}");
        }
        outer.commit().await.unwrap();
        store.begin().await.unwrap().commit().await.unwrap();
    }

    #[tokio::test]
    async fn nested_begin_is_a_defect_that_names_both() {
        let (store, _folder) = store().await;
        // In the thread that blocks, and in a task.
        nest(store.clone(), 1).await;
        tokio::spawn(nest(store, 2)).await.unwrap();
    }

    #[tokio::test]
    async fn begin_beside_one_that_has_not_begun_is_no_defect() {
        let (store, folder) = store().await;
        let url = format!("sqlite://{}", folder.path().join("things.db").display());
        let mut program = sqlx::AnyConnection::connect(&url).await.unwrap();
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut program).await.unwrap();
        tokio::time::pause();
        let mut first = pin!(store.begin());
        assert!(futures_util::poll!(&mut first).is_pending(), "another program writes");
        let second = store.begin().await;
        assert_eq!(second.map(drop).unwrap_err().condition(), Some(Condition::NoFreeConnection));
        sqlx::raw_sql("ROLLBACK").execute(&mut program).await.unwrap();
        first.await.unwrap().commit().await.unwrap();
    }

    #[tokio::test]
    async fn begin_waits_for_the_transaction_of_another_task() {
        let (store, _folder) = store().await;
        let mut holding = store.begin().await.unwrap();
        let other = tokio::spawn({
            let store = store.clone();
            async move { store.begin().await?.commit().await }
        });
        sleep(4 * IDLE).await;
        insert(&mut holding, 1).await;
        holding.commit().await.unwrap();
        other.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn begin_waits_for_a_transaction_that_moved_to_another_task() {
        let (store, _folder) = store().await;
        let mut moved = store.begin().await.unwrap();
        insert(&mut moved, 1).await;
        let other = tokio::spawn(async move {
            insert(&mut moved, 2).await;
            sleep(4 * IDLE).await;
            moved.commit().await
        });
        store.begin().await.unwrap().commit().await.unwrap();
        other.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn begin_waits_for_a_transaction_that_the_same_task_runs_beside() {
        let (store, _folder) = store().await;
        let beside = async |first: i64| {
            let mut tx = store.begin().await.unwrap();
            for id in 0..20 {
                insert(&mut tx, first + id).await;
                sleep(IDLE / 10).await;
            }
            tx.commit().await.unwrap();
        };
        tokio::join!(beside(0), beside(100), beside(200));
    }
}

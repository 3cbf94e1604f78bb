//! Group commit for SQLite: transactions that wait at the same time become durable with one flush of the disk.
//!
//! SQLite has one writer, and the flush of a commit costs far more than its statements. The transactions of this
//! process are therefore savepoints of one real transaction, one after the other. Up to [`MAX_MEMBERS`] of
//! those that waited when it began are in it.
//!
//! The order is that of a fair lock. The first member of a group starts a task that waits for the same lock
//! and then commits the group.
//! Transactions that queue before this task are in the group; those behind it are in the next group. The commit of a
//! transaction that arrives alone runs right behind it, without a delay.
//!
//! Guarantees:
//! - `commit` returns after the group is durable, in the file at the path of the database.
//! - A member that rolls back or is dropped leaves the other members as they are.
//! - The rows that its members publish are numbered and written once, before its COMMIT.
//! - A caller may be dropped at any time: each statement that opens or closes a savepoint runs in a task of its own, to
//!   completion.
//!
//! See: docs/decisions/0005-one-writer-for-sqlite.md

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

use super::completion::run_to_completion;
use super::condition::Condition;
use super::connection::Connection;
use super::error::Error;
use super::file::DatabaseFile;
use super::holders::{Held, Holders, Place};
use super::log::{self, Published};

/// The most members of one group. It bounds the wait of the first member.
const MAX_MEMBERS: usize = 64;

/// The one writer of a database. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Group {
    writer: Arc<Mutex<Writer>>,
    /// The longest wait for the writer.
    wait_limit: Duration,
    holders: Holders,
}

#[derive(Debug)]
struct Writer {
    connection: Connection,
    file: DatabaseFile,
    /// Whether a transaction is open that the next member joins.
    open: bool,
    /// The committed members, which wait until the group is durable.
    members: Vec<oneshot::Sender<Result<(), Error>>>,
    /// The rows that these members publish, in the order of their commits.
    published: Vec<Published>,
    /// Whether the last member was dropped and its savepoint is still open.
    abandoned: bool,
}

/// A savepoint in the transaction of its group; rolled back if it is dropped.
#[derive(Debug)]
pub(super) struct Member {
    writer: OwnedMutexGuard<Writer>,
    done: bool,
    /// `None` once it commits: it then needs its task no more.
    held: Option<Held>,
}

impl Group {
    pub(super) fn new(connection: Connection, file: DatabaseFile, wait_limit: Duration) -> Self {
        let (members, published) = (Vec::new(), Vec::new());
        let writer = Writer { connection, file, open: false, members, published, abandoned: false };
        Self { writer: Arc::new(Mutex::new(writer)), wait_limit, holders: Holders::default() }
    }

    /// Waits for the writer and opens a savepoint. [`Error::Unavailable`] if the wait exceeds its limit,
    /// [`Error::Defect`] if the task has the writer itself.
    pub(super) async fn join(&self, place: Place) -> Result<Member, Error> {
        let writer = self.holders.wait(self.wait_limit, place, Arc::clone(&self.writer).lock_owned()).await?;
        let held = self.holders.enter(place);
        // BEGIN waits for other programs that use the file. Until it ends, the transaction is not idle.
        let holder = held.holder();
        holder.statement_begins();
        let mut member = Member { writer, done: true, held: Some(held) };
        let group = self.clone();
        run_to_completion(async move {
            member.writer.roll_back_abandoned().await;
            let begin = if member.writer.open { "SAVEPOINT member" } else { "BEGIN IMMEDIATE; SAVEPOINT member" };
            if let Err(error) = member.writer.run(begin).await {
                member.writer.fail(&error).await;
                return Err(error);
            }
            if !std::mem::replace(&mut member.writer.open, true) {
                tokio::spawn(group.commit());
            }
            holder.statement_ends();
            member.writer.connection.hold(Some(holder));
            member.done = false;
            Ok(member)
        })
        .await
    }

    /// Waits for the writer and commits the open group, if there is one.
    pub(super) async fn commit(self) {
        let mut writer = self.writer.lock().await;
        writer.roll_back_abandoned().await;
        if writer.open {
            writer.commit().await;
        }
    }

    /// Moves the write-ahead log into the database file. The readers must be closed before, since they hold it back. If
    /// it fails, the next process that opens the file reads both.
    pub(super) async fn checkpoint(self) {
        let _ = self.writer.lock().await.run("PRAGMA wal_checkpoint(TRUNCATE)").await;
    }
}

impl Member {
    /// Releases the savepoint, hands over what the transaction publishes, and waits until its group is durable.
    pub(super) async fn commit(mut self, published: Vec<Published>) -> Result<(), Error> {
        let durable = run_to_completion(async move {
            self.done = true;
            self.held = None;
            let (sender, durable) = oneshot::channel();
            match self.writer.run("RELEASE member").await {
                Ok(()) => {
                    self.writer.members.push(sender);
                    self.writer.published.extend(published);
                    if self.writer.members.len() >= MAX_MEMBERS {
                        self.writer.commit().await;
                    }
                    Ok(durable)
                }
                Err(error) => {
                    // SQLite has rolled back the whole group, as it does when the disk is full.
                    self.writer.fail(&error).await;
                    Err(error)
                }
            }
        });
        match durable.await?.await {
            Ok(result) => result,
            Err(_) => Err(sqlx::Error::WorkerCrashed.into()),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // A drop cannot wait: the next member rolls the savepoint back before it begins.
        self.writer.abandoned |= !self.done;
    }
}

impl Writer {
    /// Rolls back the savepoint of a member that was dropped.
    async fn roll_back_abandoned(&mut self) {
        if std::mem::take(&mut self.abandoned)
            && let Err(error) = self.run("ROLLBACK TO member; RELEASE member").await
        {
            self.fail(&error).await;
        }
    }

    async fn commit(&mut self) {
        if let Err(error) = self.number().await {
            return self.fail(&error).await;
        }
        let is_alone = self.members.len() == 1;
        match self.connection.control("COMMIT").await.map_err(Error::from) {
            // After the commit, so that none is acknowledged that went into a removed file.
            Ok(()) => self.end(self.file.is_in_place().as_ref().copied()),
            // Such as a constraint that is checked at the commit. Of several members, any may be at fault.
            Err(error) if is_alone => self.fail(&error).await,
            Err(error) => self.fail(&of_group(error)).await,
        }
    }

    /// Numbers and writes what the members publish.
    async fn number(&mut self) -> Result<(), Error> {
        match std::mem::take(&mut self.published) {
            none if none.is_empty() => Ok(()),
            published => log::number(&mut self.connection, &published).await,
        }
    }

    /// Rolls the group back and reports the failure to its members.
    async fn fail(&mut self, error: &Error) {
        // SQLite has often rolled back already, and then reports that there is nothing to roll back.
        let _ = self.run("ROLLBACK").await;
        self.end(Err(error));
    }

    fn end(&mut self, result: Result<(), &Error>) {
        self.open = false;
        self.published.clear();
        for member in self.members.drain(..) {
            // A member whose caller was dropped has no receiver.
            let _ = member.send(result.map_err(Error::duplicate));
        }
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), Error> {
        self.connection.control(sql).await.map_err(|error| of_group(error.into()))
    }
}

/// The error of a group, to a member of it: SQLite has rolled back the whole group, perhaps for the fault of another
/// one.
fn of_group(error: Error) -> Error {
    match error {
        Error::Defect(cause) => Error::unavailable(Condition::Busy, cause),
        error => error,
    }
}

impl Deref for Member {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.writer.connection
    }
}

impl DerefMut for Member {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.writer.connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Database, Migration, Store, open};
    use futures_util::future::join_all;
    use sqlx::Row as _;

    const SCHEMA: &[Migration] =
        &[Migration::new(1, "things", "CREATE TABLE things (id BIGINT NOT NULL PRIMARY KEY);")];

    async fn store() -> (Store, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("things.db"));
        (open("things", &database, &[], SCHEMA).await.unwrap(), folder)
    }

    async fn insert(store: &Store, id: i64) -> Result<(), Error> {
        let mut tx = store.begin().await?;
        sqlx::query("INSERT INTO things (id) VALUES ($1)").bind(id).execute(&mut *tx).await?;
        tx.commit().await
    }

    async fn count(store: &Store) -> i64 {
        sqlx::query("SELECT count(*) FROM things").fetch_one(store.reader()).await.unwrap().get(0)
    }

    #[tokio::test]
    async fn group_holds_all_that_wait_and_a_lone_transaction_commits_at_once() {
        let (store, _folder) = store().await;
        insert(&store, 0).await.unwrap();
        assert_eq!(count(&store).await, 1);

        // Readers see a row when it is durable, which is when the whole group is.
        let holding = store.begin().await.unwrap();
        let seen = (1..=20).map(|id| {
            let store = store.clone();
            tokio::spawn(async move {
                insert(&store, id).await.unwrap();
                count(&store).await
            })
        });
        let seen: Vec<_> = seen.collect();
        tokio::task::yield_now().await;
        holding.commit().await.unwrap();
        let seen: Vec<_> = join_all(seen).await.into_iter().map(Result::unwrap).collect();
        assert!(seen.iter().filter(|seen| **seen == 21).count() > 15, "not in one group: {seen:?}");
    }

    #[tokio::test]
    async fn rollback_or_drop_of_a_member_leaves_the_other_members() {
        let (store, _folder) = store().await;
        let each = (0..60).map(|id| {
            let store = store.clone();
            tokio::spawn(async move {
                match id % 3 {
                    0 => insert(&store, id).await.is_ok(),
                    // The key exists.
                    1 => insert(&store, id - 1).await.is_ok(),
                    _ => {
                        let mut tx = store.begin().await.unwrap();
                        sqlx::query("INSERT INTO things (id) VALUES ($1)").bind(id).execute(&mut *tx).await.unwrap();
                        false
                    }
                }
            })
        });
        let committed = join_all(each.collect::<Vec<_>>()).await;
        let committed = committed.into_iter().filter(|one| *one.as_ref().unwrap()).count();
        assert_eq!((committed, count(&store).await), (20, 20));
    }

    #[tokio::test]
    async fn dropped_caller_leaves_all_or_nothing_and_a_working_writer() {
        let (store, _folder) = store().await;
        for (id, polls) in (0..200).zip((0..20).cycle()) {
            let mut inserting = Box::pin(insert(&store, id));
            for _ in 0..polls {
                if futures_util::poll!(&mut inserting).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        insert(&store, 1000).await.unwrap();
        let before = count(&store).await;
        insert(&store, 1001).await.unwrap();
        assert_eq!(count(&store).await, before + 1);
    }

    #[tokio::test]
    async fn close_leaves_everything_in_one_file() {
        let (store, folder) = store().await;
        insert(&store, 1).await.unwrap();
        let log = || std::fs::metadata(folder.path().join("things.db-wal")).map_or(0, |log| log.len());
        assert!(log() > 0);
        store.close().await;
        assert_eq!(log(), 0);
    }

    #[tokio::test]
    async fn rollback_by_sqlite_is_reported_to_each_member() {
        let (store, _folder) = store().await;
        let holding = store.begin().await.unwrap();
        let before = tokio::spawn({
            let store = store.clone();
            async move { insert(&store, 1).await }
        });
        let breaking = tokio::spawn({
            let store = store.clone();
            async move {
                let mut tx = store.begin().await?;
                // SQLite does this by itself when the disk is full.
                sqlx::query("ROLLBACK").execute(&mut *tx).await?;
                tx.commit().await
            }
        });
        tokio::task::yield_now().await;
        // Alone in its group: the others arrived after its begin.
        holding.commit().await.unwrap();
        assert!(matches!(before.await.unwrap(), Err(Error::Unavailable(_))));
        assert!(matches!(breaking.await.unwrap(), Err(Error::Unavailable(_))));
        assert_eq!(count(&store).await, 0);
        insert(&store, 2).await.unwrap();
    }
}

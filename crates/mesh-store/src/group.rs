//! Group commit: transactions that arrive together become durable together.
//!
//! On SQLite a commit costs a flush of the disk, a hundred times what the statements cost, and there is one writer. So
//! the transactions of this process are savepoints of one real transaction, one after the other, and whoever was
//! waiting when it began is in it. Who commits still hears of it only when it is durable, and who rolls back takes
//! nobody along.
//!
//! The order is that of a fair lock. The first of a group sends somebody to queue for the lock once more, to commit:
//! whoever stands before that one is in the group, whoever comes behind it is in the next. A transaction that arrives
//! alone has its commit right behind it, and waits for nothing.
//!
//! A caller may go away at any moment, so no statement of this module runs in a caller's future: whatever opens or
//! closes a savepoint runs in a task of its own, to its end.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sqlx::AnyConnection;
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};
use tokio::time::timeout;

use super::error::Error;
use super::to_its_end::to_its_end;

/// How many are made durable together at most, so that the first of them does not wait for ever longer queues.
const MOST: usize = 64;

/// The one writer of a database. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Group {
    writer: Arc<Mutex<Writer>>,
    /// How long to wait for one's turn.
    patience: Duration,
}

#[derive(Debug)]
struct Writer {
    connection: AnyConnection,
    /// Whether there is a transaction for the next to be in.
    open: bool,
    /// Who is in it and waits for its end.
    members: Vec<oneshot::Sender<Result<(), String>>>,
    /// Whether the last one went away without a word, and its savepoint is still there.
    abandoned: bool,
}

/// A savepoint in the transaction of its group; rolled back if it is dropped.
#[derive(Debug)]
pub(super) struct Member {
    writer: OwnedMutexGuard<Writer>,
    done: bool,
}

impl Group {
    pub(super) fn new(connection: AnyConnection, patience: Duration) -> Self {
        let writer = Writer { connection, open: false, members: Vec::new(), abandoned: false };
        Self { writer: Arc::new(Mutex::new(writer)), patience }
    }

    /// Waits for its turn, and opens a savepoint.
    pub(super) async fn join(&self) -> Result<Member, Error> {
        let writer = timeout(self.patience, Arc::clone(&self.writer).lock_owned());
        let writer = writer.await.map_err(|_| Error::Unavailable(sqlx::Error::PoolTimedOut))?;
        let mut member = Member { writer, done: true };
        let group = self.clone();
        to_its_end(async move {
            member.writer.clean_up().await;
            let begin = if member.writer.open { "SAVEPOINT member" } else { "BEGIN IMMEDIATE; SAVEPOINT member" };
            if let Err(error) = member.writer.run(begin).await {
                member.writer.fail(&error).await;
                return Err(error.into());
            }
            if !std::mem::replace(&mut member.writer.open, true) {
                tokio::spawn(group.commit());
            }
            member.done = false;
            Ok(member)
        })
        .await
    }

    /// Makes durable what there is when it is this one's turn.
    pub(super) async fn commit(self) {
        let mut writer = self.writer.lock().await;
        writer.clean_up().await;
        if writer.open {
            writer.commit().await;
        }
    }

    /// Brings into the database's file what is only in the write-ahead log, which readers would hold back. If that cannot
    /// be now, whoever opens the file next reads both.
    pub(super) async fn empty_log(self) {
        let _ = self.writer.lock().await.run("PRAGMA wal_checkpoint(TRUNCATE)").await;
    }
}

impl Member {
    /// Ends the savepoint, and waits until its group is durable.
    pub(super) async fn commit(mut self) -> Result<(), Error> {
        let durable = to_its_end(async move {
            self.done = true;
            let (sender, durable) = oneshot::channel();
            match self.writer.run("RELEASE member").await {
                Ok(()) => {
                    self.writer.members.push(sender);
                    if self.writer.members.len() >= MOST {
                        self.writer.commit().await;
                    }
                    Ok(durable)
                }
                Err(error) => {
                    // SQLite has rolled back everything, as it does when the disk is full.
                    self.writer.fail(&error).await;
                    Err(Error::Unavailable(error))
                }
            }
        });
        match durable.await?.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(Error::Unavailable(sqlx::Error::Protocol(why))),
            Err(_) => Err(Error::Unavailable(sqlx::Error::WorkerCrashed)),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // There is no waiting in a drop: whoever comes next does it first.
        self.writer.abandoned |= !self.done;
    }
}

impl Writer {
    /// Rolls back whoever went away.
    async fn clean_up(&mut self) {
        if std::mem::take(&mut self.abandoned)
            && let Err(error) = self.run("ROLLBACK TO member; RELEASE member").await
        {
            self.fail(&error).await;
        }
    }

    async fn commit(&mut self) {
        match self.run("COMMIT").await {
            Ok(()) => self.end(Ok(())),
            Err(error) => self.fail(&error).await,
        }
    }

    /// Nothing of this transaction has happened.
    async fn fail(&mut self, error: &sqlx::Error) {
        // Most often SQLite has done it already, and says that there is nothing to roll back.
        let _ = self.run("ROLLBACK").await;
        self.end(Err(error.to_string()));
    }

    fn end(&mut self, result: Result<(), String>) {
        self.open = false;
        for member in self.members.drain(..) {
            // Whoever does not wait any more does not want to know.
            let _ = member.send(result.clone());
        }
    }

    async fn run(&mut self, sql: &'static str) -> sqlx::Result<()> {
        sqlx::raw_sql(sql).execute(&mut self.connection).await.map(drop)
    }
}

impl Deref for Member {
    type Target = AnyConnection;
    fn deref(&self) -> &AnyConnection {
        &self.writer.connection
    }
}

impl DerefMut for Member {
    fn deref_mut(&mut self) -> &mut AnyConnection {
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
    async fn who_waits_is_in_the_same_group_and_who_comes_alone_waits_for_nobody() {
        let (store, _folder) = store().await;
        insert(&store, 0).await.unwrap();
        assert_eq!(count(&store).await, 1);

        // What one of them has written can be read when it is durable, and that is when all of them are.
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
        assert!(seen.iter().filter(|seen| **seen == 21).count() > 15, "they were not together: {seen:?}");
    }

    #[tokio::test]
    async fn who_rolls_back_or_goes_away_takes_nobody_along() {
        let (store, _folder) = store().await;
        let each = (0..60).map(|id| {
            let store = store.clone();
            tokio::spawn(async move {
                match id % 3 {
                    0 => insert(&store, id).await.is_ok(),
                    // A key that is there.
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
    async fn a_caller_that_is_dropped_anywhere_leaves_all_or_nothing_and_a_writer_that_works() {
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
    async fn what_is_closed_is_all_in_one_file() {
        let (store, folder) = store().await;
        insert(&store, 1).await.unwrap();
        let log = || std::fs::metadata(folder.path().join("things.db-wal")).map_or(0, |log| log.len());
        assert!(log() > 0);
        store.close().await;
        assert_eq!(log(), 0);
    }

    #[tokio::test]
    async fn when_sqlite_undoes_everything_everybody_is_told() {
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
                // As SQLite does by itself when the disk is full.
                sqlx::query("ROLLBACK").execute(&mut *tx).await?;
                tx.commit().await
            }
        });
        tokio::task::yield_now().await;
        // Alone in its group: they have come since.
        holding.commit().await.unwrap();
        assert!(matches!(before.await.unwrap(), Err(Error::Unavailable(_))));
        assert!(matches!(breaking.await.unwrap(), Err(Error::Unavailable(_))));
        assert_eq!(count(&store).await, 0);
        insert(&store, 2).await.unwrap();
    }
}

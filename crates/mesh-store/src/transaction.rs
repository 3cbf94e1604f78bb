//! A transaction with hooks: work just before the commit, and work after it.
//!
//! See: docs/decisions/0022-transaction-hooks.md

use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;

use super::completion::run_to_completion;
use super::connection::Connection;
use super::dialect::Dialect;
use super::error::Error;
use super::group;
use super::holders::{Held, Place};
use super::log::{self, Log, Published};
use super::pool::Lease;

/// A transaction. It is rolled back if it is dropped before [`commit`](Self::commit). Use it as a connection:
/// `sqlx::query(…).execute(&mut *tx)`.
pub struct Transaction {
    inner: Inner,
    log: Arc<Log>,
    published: Vec<Published>,
    before_commit: Vec<Box<dyn BeforeCommit>>,
    after_commit: Vec<Box<dyn FnOnce() + Send>>,
}

/// Work that a transaction does just before its commit, such as an update of a contended counter row.
pub trait BeforeCommit: Any + Send {
    /// Runs as the last part of the transaction. An error rolls the transaction back.
    fn write<'a>(
        self: Box<Self>,
        tx: &'a mut Transaction,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;
}

enum Inner {
    Sqlite(group::Member),
    Postgres { lease: Box<Lease>, held: Held },
}

impl Transaction {
    /// A transaction of SQLite, a member of a group commit.
    pub(super) fn member(member: group::Member, log: Arc<Log>) -> Self {
        Self::new(Inner::Sqlite(member), log)
    }

    /// A transaction of Postgres, which has a connection of its own.
    pub(super) fn lease(mut lease: Lease, place: Place, log: Arc<Log>) -> Self {
        let held = lease.pool().holders().enter(place);
        lease.connection_mut().hold(Some(held.holder()));
        Self::new(Inner::Postgres { lease: Box::new(lease), held }, log)
    }

    fn new(inner: Inner, log: Arc<Log>) -> Self {
        Self { inner, log, published: Vec::new(), before_commit: Vec::new(), after_commit: Vec::new() }
    }

    /// The kind of the database.
    pub fn dialect(&self) -> Dialect {
        match self.inner {
            Inner::Sqlite(_) => Dialect::Sqlite,
            Inner::Postgres { .. } => Dialect::Postgres,
        }
    }

    /// The service that owns the database.
    pub fn service(&self) -> &'static str {
        self.log.service
    }

    /// Adds a row to the log. The transaction writes it last, behind the hooks of
    /// [`before_commit`](Self::before_commit).
    pub fn append(&mut self, row: Published) {
        self.published.push(row);
    }

    /// The rows that were added to the log.
    pub fn appended(&self) -> &[Published] {
        &self.published
    }

    /// Asks Postgres whether it has aborted the transaction, if a statement has failed: it executes nothing behind that
    /// statement, even if the caller goes on. Otherwise this costs nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Defect`]: it is aborted, and can only be rolled back.
    pub async fn check(&mut self) -> Result<(), Error> {
        if self.has_failed() {
            self.control("SELECT 1").await?;
        }
        Ok(())
    }

    /// Runs the hooks and commits. After `Ok` the data is durable and survives a crash.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the connection failed. It is then not known whether the data was committed: retry
    /// under the same `request_id`, or read first. An error of a hook rolls the transaction back.
    pub async fn commit(mut self) -> Result<(), Error> {
        // A hook may ask for another one.
        while !self.before_commit.is_empty() {
            self.before_commit.remove(0).write(&mut self).await?;
        }
        let dialect = self.dialect();
        let publishes = !self.published.is_empty();
        match self.inner {
            Inner::Sqlite(member) => member.commit(self.published).await?,
            Inner::Postgres { mut lease, held } => {
                if publishes {
                    log::stage(lease.connection_mut(), &self.published).await?;
                }
                // From here on the transaction needs its task no more.
                drop(held);
                run_to_completion(async { Ok(lease.commit().await?) }).await?;
            }
        }
        if publishes {
            match dialect {
                Dialect::Sqlite => self.log.numbered.send_replace(()),
                Dialect::Postgres => self.log.staged.notify_one(),
            }
        }
        self.after_commit.into_iter().for_each(|then| then());
        Ok(())
    }

    /// The hook of type `W`, which is created at the first call. A transaction has one hook of each type and runs them
    /// in the order of their first calls.
    pub fn before_commit<W: BeforeCommit + Default>(&mut self) -> &mut W {
        let known = self.before_commit.iter().position(|work| (&**work as &dyn Any).is::<W>());
        let at = known.unwrap_or_else(|| {
            self.before_commit.push(Box::<W>::default());
            self.before_commit.len() - 1
        });
        let work: &mut dyn Any = &mut *self.before_commit[at];
        match work.downcast_mut() {
            Some(work) => work,
            None => unreachable!("the work at this index has this type"),
        }
    }

    /// Adds work for after the commit, such as a notification. It does not run if the commit fails.
    pub fn after_commit(&mut self, then: impl FnOnce() + Send + 'static) {
        self.after_commit.push(Box::new(then));
    }
}

impl Deref for Transaction {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        match &self.inner {
            Inner::Sqlite(member) => member,
            Inner::Postgres { lease, .. } => lease.connection(),
        }
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        match &mut self.inner {
            Inner::Sqlite(member) => member,
            Inner::Postgres { lease, .. } => lease.connection_mut(),
        }
    }
}

impl AsMut<Self> for Transaction {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Database, Migration, Store, open};
    use sqlx::Row as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    const SCHEMA: &[Migration] =
        &[Migration::new(1, "things", "CREATE TABLE things (id BIGINT NOT NULL PRIMARY KEY);")];

    /// Inserts the collected ids.
    #[derive(Default)]
    struct Inserted(Vec<i64>);

    impl BeforeCommit for Inserted {
        fn write<'a>(
            self: Box<Self>,
            tx: &'a mut Transaction,
        ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>> {
            Box::pin(async move {
                for id in self.0 {
                    sqlx::query("INSERT INTO things (id) VALUES ($1)").bind(id).execute(&mut **tx).await?;
                }
                Ok(())
            })
        }
    }

    async fn store() -> (Store, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("things.db"));
        (open("things", &database, &[], SCHEMA).await.unwrap(), folder)
    }

    async fn count(store: &Store) -> i64 {
        sqlx::query("SELECT count(*) FROM things").fetch_one(store.reader()).await.unwrap().get(0)
    }

    #[tokio::test]
    async fn before_commit_runs_one_hook_a_type_within_the_transaction() {
        let (store, _folder) = store().await;
        let mut tx = store.begin().await.unwrap();
        tx.before_commit::<Inserted>().0.push(1);
        tx.before_commit::<Inserted>().0.push(2);
        tx.commit().await.unwrap();
        assert_eq!(count(&store).await, 2);

        let mut fails = store.begin().await.unwrap();
        fails.before_commit::<Inserted>().0.extend([3, 1]);
        let after = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&after);
        fails.after_commit(move || done.store(true, Ordering::Relaxed));
        assert!(fails.commit().await.is_err(), "the key exists");
        assert_eq!(count(&store).await, 2, "the whole transaction is rolled back");
        assert!(!after.load(Ordering::Relaxed), "a failed commit runs no after_commit hook");
    }
}

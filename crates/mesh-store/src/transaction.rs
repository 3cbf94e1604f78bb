//! A transaction, with work that it does last and work that follows its commit.

use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;

use sqlx::{AnyConnection, AnyPool};

use super::dialect::Dialect;
use super::error::Error;
use super::group;
use super::to_its_end::to_its_end;

/// A transaction: all of it or, if it is dropped before [`commit`](Self::commit), none of it. Use it as a connection:
/// `sqlx::query(…).execute(&mut *tx)`.
pub struct Transaction {
    inner: Inner,
    before_commit: Vec<Box<dyn BeforeCommit>>,
    after_commit: Vec<Box<dyn FnOnce() + Send>>,
}

/// Work that a transaction does last, such as giving out numbers whose counter must be held for a short time.
pub trait BeforeCommit: Any + Send {
    /// Writes what was collected.
    fn write<'a>(
        self: Box<Self>,
        tx: &'a mut Transaction,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;
}

enum Inner {
    Sqlite(group::Member),
    Postgres(sqlx::Transaction<'static, sqlx::Any>),
}

impl Transaction {
    /// A transaction in the group that shares a commit, on SQLite.
    pub(super) fn member(member: group::Member) -> Self {
        Self::new(Inner::Sqlite(member))
    }

    fn new(inner: Inner) -> Self {
        Self { inner, before_commit: Vec::new(), after_commit: Vec::new() }
    }

    /// Which of the two databases it is in.
    pub fn dialect(&self) -> Dialect {
        match self.inner {
            Inner::Sqlite(_) => Dialect::Sqlite,
            Inner::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Makes it durable: when this returns `Ok`, no crash undoes it.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the database went away; whether it committed is then not known.
    pub async fn commit(mut self) -> Result<(), Error> {
        for work in std::mem::take(&mut self.before_commit) {
            work.write(&mut self).await?;
        }
        match self.inner {
            Inner::Sqlite(member) => member.commit().await?,
            Inner::Postgres(transaction) => to_its_end(async { Ok(transaction.commit().await?) }).await?,
        }
        self.after_commit.into_iter().for_each(|then| then());
        Ok(())
    }

    /// The work of type `W` that this transaction does last, to add to. Works of different types are done in the order in
    /// which they were first asked for.
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

    /// Does something once this is durable, and only then, such as a notification.
    pub fn after_commit(&mut self, then: impl FnOnce() + Send + 'static) {
        self.after_commit.push(Box::new(then));
    }
}

/// Begins a transaction on Postgres. BEGIN runs to its end once there is a connection: when a future of sqlx is dropped
/// while BEGIN is under way, the connection goes back to the pool inside a transaction.
pub(super) async fn begin(pool: &AnyPool) -> Result<Transaction, Error> {
    let connection = pool.acquire().await?;
    let inner = to_its_end(async { Ok(sqlx::Transaction::begin(connection, None).await?) }).await?;
    Ok(Transaction::new(Inner::Postgres(inner)))
}

impl Deref for Transaction {
    type Target = AnyConnection;
    fn deref(&self) -> &AnyConnection {
        match &self.inner {
            Inner::Sqlite(member) => member,
            Inner::Postgres(transaction) => transaction,
        }
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        match &mut self.inner {
            Inner::Sqlite(member) => member,
            Inner::Postgres(transaction) => transaction,
        }
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

    /// Inserts what was collected.
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
    async fn before_commit_is_one_work_a_type_and_part_of_the_transaction() {
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
        assert!(fails.commit().await.is_err(), "the key is taken");
        assert_eq!(count(&store).await, 2, "all of it or nothing");
        assert!(!after.load(Ordering::Relaxed), "nothing follows a commit that failed");
    }
}

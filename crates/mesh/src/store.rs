//! The owned database: a file of its own by default, a Postgres by URL, the same SQL and the same migrations.
//!
//! Services write portable SQL (`$1` for parameters; TEXT, BIGINT, DOUBLE PRECISION and BYTEA for columns; booleans as
//! 0 and 1, times as microseconds since 1970). What differs between the two databases differs here.
//!
//! SQLite has one writer whatever one does, so writes go through one connection and wait their turn in this process,
//! where the wait is fair and visible, instead of failing with "database is locked"; those that wait become durable
//! together (`group`). Reads have connections of their
//! own and, with a write-ahead log, never wait for the writer. Postgres has one pool for both.

mod dialect;
mod error;
mod group;
mod open;
mod requests;
mod rows;

use std::ops::{Deref, DerefMut};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::{Any, AnyConnection, AnyPool};

use crate::operations::feed;
pub(crate) use dialect::Dialect;
pub use error::Error;
use group::Group;
pub(crate) use open::open;
pub(crate) use requests::hash;
pub use requests::{Once, Request};
pub(crate) use rows::{Column, hex};

/// How many rows housekeeping touches in one transaction: few, so that those who write wait no longer than for each
/// other.
pub(crate) const BATCH: i64 = 250;

/// One step of a schema, applied once and never edited: `Migration::new(1, "titles", include_str!("…"))`.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    pub(crate) version: i64,
    pub(crate) description: &'static str,
    pub(crate) sql: &'static str,
}

impl Migration {
    /// A step with its place in the order, counted from 1.
    pub const fn new(version: i64, description: &'static str, sql: &'static str) -> Self {
        Self { version, description, sql }
    }
}

/// Who writes. Cheap to clone.
#[derive(Clone, Debug)]
enum Writer {
    /// One after the other.
    Sqlite(Group),
    /// All at once.
    Postgres(AnyPool),
}

/// The database that one service owns. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    readers: AnyPool,
    writer: Writer,
    dialect: Dialect,
    /// Held as long as any clone is: one process at a time opens an embedded database.
    _lock: Option<std::sync::Arc<std::fs::File>>,
}

impl Store {
    /// Where to read: `sqlx::query(…).fetch_one(store.reader())`.
    pub fn reader(&self) -> &AnyPool {
        &self.readers
    }

    /// Begins a transaction that may write. Do not wait for anything else while it is open: on SQLite it has the one
    /// writer, for which all others wait, and Postgres ends it when it is silent for ten seconds.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the database cannot be reached, or is too busy to give a connection in time.
    pub async fn begin(&self) -> Result<Transaction, Error> {
        let inner = match &self.writer {
            Writer::Sqlite(group) => Inner::Sqlite(group.join().await?),
            Writer::Postgres(pool) => Inner::Postgres(begin(pool).await?),
        };
        Ok(Transaction { inner, dialect: self.dialect, feed: Vec::new(), committed: Vec::new() })
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whether the database answers.
    pub(crate) async fn ping(&self, limit: Duration) -> Result<(), Error> {
        let answer = sqlx::query("SELECT 1").execute(&self.readers);
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map(drop).map_err(Error::from),
            Err(_) => Err(Error::Unavailable(sqlx::Error::PoolTimedOut)),
        }
    }

    /// Closes what reads, which on Postgres writes, too; then waits for what SQLite's writer is at, and leaves everything
    /// in the one file.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        if let Writer::Sqlite(group) = &self.writer {
            group.clone().commit().await;
            group.clone().empty_log().await;
        }
    }
}

/// A transaction: all of it or, if it is dropped before [`commit`](Self::commit), none of it. Use it as a connection:
/// `sqlx::query(…).execute(&mut *tx)`.
pub struct Transaction {
    inner: Inner,
    dialect: Dialect,
    feed: Vec<feed::Entry>,
    committed: Vec<Box<dyn FnOnce() + Send>>,
}

enum Inner {
    Sqlite(group::Member),
    Postgres(sqlx::Transaction<'static, Any>),
}

impl Transaction {
    /// Makes it durable: when this returns `Ok`, no crash undoes it.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the database went away; whether it committed is then not known.
    pub async fn commit(mut self) -> Result<(), Error> {
        let feed = std::mem::take(&mut self.feed);
        let dialect = self.dialect;
        feed::append(&mut self, dialect, feed).await?;
        match self.inner {
            Inner::Sqlite(member) => member.commit().await?,
            Inner::Postgres(transaction) => to_its_end(async { Ok(transaction.commit().await?) }).await?,
        }
        self.committed.into_iter().for_each(|then| then());
        Ok(())
    }

    /// Tells of an operation, as the last of what this transaction does.
    pub(crate) fn tell(&mut self, entry: feed::Entry) {
        self.feed.push(entry);
    }

    /// Does something once this is durable, and only then: a wake-up, for one.
    pub(crate) fn once_committed(&mut self, then: impl FnOnce() + Send + 'static) {
        self.committed.push(Box::new(then));
    }
}

/// As `pool.begin()`, to its end once there is a connection. When its future is dropped, sqlx gives the connection back
/// while BEGIN is under way, and nobody ends what that begins.
async fn begin(pool: &AnyPool) -> Result<sqlx::Transaction<'static, Any>, Error> {
    let connection = pool.acquire().await?;
    to_its_end(async { Ok(sqlx::Transaction::begin(connection, None).await?) }).await
}

/// Runs something to its end, whether or not its caller stays.
async fn to_its_end<T: Send + 'static>(
    task: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(task).await.unwrap_or(Err(Error::Unavailable(sqlx::Error::WorkerCrashed)))
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

/// Now, as columns hold it: microseconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// A time in a column as the message that crosses the wire.
pub fn timestamp(micros: i64) -> prost_types::Timestamp {
    let nanos = micros.rem_euclid(1_000_000) * 1_000;
    prost_types::Timestamp { seconds: micros.div_euclid(1_000_000), nanos: i32::try_from(nanos).unwrap_or_default() }
}

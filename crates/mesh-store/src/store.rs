//! A store: its readers, its writer, and what differs between the two databases.

use std::time::Duration;

use sqlx::AnyPool;

use super::dialect::Dialect;
use super::error::Error;
use super::group::Group;
use super::transaction::{self, Transaction};

/// The rows that housekeeping touches in one transaction: few, so that other writers do not wait long.
pub const BATCH: i64 = 250;

/// How transactions begin. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum Writer {
    /// One after the other.
    Sqlite(Group),
    /// All at once.
    Postgres(AnyPool),
}

/// The database that one service owns. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) readers: AnyPool,
    pub(super) writer: Writer,
    pub(super) dialect: Dialect,
    /// Held as long as any clone is: one process at a time opens an embedded database.
    pub(super) _lock: Option<std::sync::Arc<std::fs::File>>,
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
        match &self.writer {
            Writer::Sqlite(group) => Ok(Transaction::member(group.join().await?)),
            Writer::Postgres(pool) => transaction::begin(pool).await,
        }
    }

    /// Which of the two databases it is.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whether the database answers within a limit.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if it does not.
    pub async fn ping(&self, limit: Duration) -> Result<(), Error> {
        let answer = sqlx::query("SELECT 1").execute(&self.readers);
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map(drop).map_err(Error::from),
            Err(_) => Err(Error::Unavailable(sqlx::Error::PoolTimedOut)),
        }
    }

    /// Closes what reads, which on Postgres writes, too; then waits for what SQLite's writer is at, and leaves everything
    /// in the one file.
    pub async fn close(&self) {
        self.readers.close().await;
        if let Writer::Sqlite(group) = &self.writer {
            group.clone().commit().await;
            group.clone().empty_log().await;
        }
    }
}

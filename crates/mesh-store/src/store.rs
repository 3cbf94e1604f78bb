//! A store: the readers and the writer of one database.

use std::time::Duration;

use sqlx::AnyPool;

use super::dialect::Dialect;
use super::error::Error;
use super::group::Group;
use super::transaction::{self, Transaction};

/// The most rows that housekeeping changes in one transaction, so that other writers do not wait long.
pub const BATCH: i64 = 250;

/// Where transactions begin. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum Writer {
    /// Transactions run one after the other.
    Sqlite(Group),
    /// Transactions run at the same time.
    Postgres(AnyPool),
}

/// The database that one service owns. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) readers: AnyPool,
    pub(super) writer: Writer,
    pub(super) dialect: Dialect,
    /// The lock of an embedded database. The last clone releases it.
    pub(super) _lock: Option<std::sync::Arc<std::fs::File>>,
}

impl Store {
    /// The connections for reads: `sqlx::query(…).fetch_one(store.reader())`.
    pub fn reader(&self) -> &AnyPool {
        &self.readers
    }

    /// Begins a transaction that may write. Do not wait for anything else while it is open: on SQLite it holds the one
    /// writer, and Postgres ends a transaction that is silent for 10 s.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the database cannot be reached, or no connection is free within 3 s. The caller may
    /// retry.
    pub async fn begin(&self) -> Result<Transaction, Error> {
        match &self.writer {
            Writer::Sqlite(group) => Ok(Transaction::member(group.join().await?)),
            Writer::Postgres(pool) => transaction::begin(pool).await,
        }
    }

    /// The kind of the database.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Checks that the database answers within `limit`.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if it does not.
    pub async fn ping(&self, limit: Duration) -> Result<(), Error> {
        let answer = sqlx::query("SELECT 1").execute(&self.readers);
        match tokio::time::timeout(limit, answer).await {
            Ok(answer) => answer.map(drop).map_err(Error::from),
            Err(_) => Err(sqlx::Error::PoolTimedOut.into()),
        }
    }

    /// Closes the connections. On SQLite it waits for the writer, commits the open group and moves the write-ahead log
    /// into the database file.
    pub async fn close(&self) {
        self.readers.close().await;
        if let Writer::Sqlite(group) = &self.writer {
            group.clone().commit().await;
            group.clone().checkpoint().await;
        }
    }
}

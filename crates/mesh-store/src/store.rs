//! A store: the readers and the writer of one database.

use std::panic::Location;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::Row as _;
use tokio::sync::watch;

use super::connections::Connections;
use super::dialect::Dialect;
use super::error::Error;
use super::file::DatabaseFile;
use super::lock::Lock;
use super::log::Log;
use super::pool::Access;
use super::probe::Probe;
use super::reader::Reader;
use super::sightings::Sightings;
use super::time::now;
use super::transaction::Transaction;

/// The most rows that housekeeping changes in one transaction, so that other writers do not wait long.
pub const BATCH: i64 = 250;

/// What statements and probing writes of a database showed.
#[derive(Debug)]
pub(super) struct Writes {
    pub(super) sightings: Sightings,
    /// The sightings before the last probing write that succeeded.
    pub(super) proven: AtomicU64,
    /// The error of the last probing write.
    pub(super) failure: Mutex<Option<Error>>,
}

impl Writes {
    pub(super) fn of(sightings: Sightings) -> Self {
        Self { sightings, proven: AtomicU64::default(), failure: Mutex::default() }
    }
}

/// The database that one service owns. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) connections: Connections,
    pub(super) probe: Arc<Probe>,
    pub(super) dialect: Dialect,
    /// Whether the schema was newer than this program when it was opened.
    pub(super) is_newer: bool,
    pub(super) log: Arc<Log>,
    /// What statements and probing writes have shown.
    pub(super) writes: Arc<Writes>,
    /// The file of an embedded database.
    pub(super) file: Option<DatabaseFile>,
    /// The lock of an embedded database. The last clone releases it.
    pub(super) _lock: Option<Arc<Lock>>,
}

impl Store {
    /// Whether a later program had migrated the database when this one opened it.
    pub fn is_newer(&self) -> bool {
        self.is_newer
    }

    /// The connections for reads: `sqlx::query(…).fetch_one(store.reader())`.
    #[track_caller]
    pub fn reader(&self) -> Reader<'_> {
        Reader { connections: &self.connections, place: Location::caller() }
    }

    /// Begins a transaction that may write. Do not wait for anything else while it is open, and begin no other: on
    /// SQLite it holds the one writer, and Postgres ends a transaction that is silent for 10 s.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the database cannot be reached, or no connection is free within `database.wait`; the
    /// caller may retry. [`Error::Defect`] if the same task waits for the end of a transaction of its own.
    #[track_caller]
    pub fn begin(&self) -> impl Future<Output = Result<Transaction, Error>> + Send + '_ {
        let place = Location::caller();
        async move {
            let log = Arc::clone(&self.log);
            match &self.connections {
                Connections::Sqlite { writer, .. } => Ok(Transaction::member(writer.join(place).await?, log)),
                Connections::Postgres(pool) => {
                    Ok(Transaction::lease(pool.begin(Access::Write, place).await?, place, log))
                }
            }
        }
    }

    /// The time in microseconds since 1970, by the clock that all replicas share.
    ///
    /// # Errors
    ///
    /// As for any statement.
    pub async fn time(&self) -> Result<i64, Error> {
        match self.dialect.shared_clock() {
            Some(ask) => Ok(sqlx::query(ask).fetch_one(self.reader()).await?.try_get(0)?),
            None => Ok(now()),
        }
    }

    /// The kind of the database.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Changes when this process has numbered rows of the log. Other processes number rows, too.
    pub fn numbered(&self) -> watch::Receiver<()> {
        self.log.numbered.subscribe()
    }

    /// Whether prepared statements are kept. They are not behind a pooler whose clients share them, nor with
    /// `database.statement_cache` 0.
    pub fn keeps_statements(&self) -> bool {
        match &self.connections {
            Connections::Sqlite { .. } => true,
            Connections::Postgres(pool) => pool.keeps_statements(),
        }
    }

    /// Checks that the database answers within `limit`, on a connection that serves nothing else.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if it does not.
    pub async fn ping(&self, limit: Duration) -> Result<(), Error> {
        let answer = self.probe.ask(limit).await;
        if let Connections::Postgres(pool) = &self.connections {
            pool.note(answer.is_ok());
        }
        answer
    }

    /// Closes the connections. On SQLite it waits for the writer, commits the open group and moves the write-ahead log
    /// into the database file.
    pub async fn close(&self) {
        self.probe.close().await;
        match &self.connections {
            Connections::Sqlite { readers, writer, .. } => {
                readers.close().await;
                writer.clone().commit().await;
                writer.clone().checkpoint().await;
            }
            Connections::Postgres(pool) => pool.close().await,
        }
    }
}

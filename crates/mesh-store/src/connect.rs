//! Opens the database of a service: lock, connections, schema.
//!
//! A failure ends the process with one line, so each error says what to do.
//!
//! Guarantees:
//! - One process at a time opens an embedded database. The lock ends with the process, however the process ends.
//! - On SQLite a commit survives a power cut, and the readers' connections cannot write.
//!
//! See: docs/decisions/0005-one-writer-for-sqlite.md

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, ConnectOptions as _, Connection as _};
use tokio::time::timeout;

use super::dialect::Dialect;
use super::error::OpenError;
use super::group::Group;
use super::migrate::{Migration, Schema, migrate};
use super::settings::Database;
use super::store::{Store, Writer};

/// The longest wait for a connection. After it, the database counts as unavailable.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(3);
/// Connections for reads: enough for two cores.
const SQLITE_READERS: u32 = 4;
/// Connections of one service in one process. Postgres allows 100 in all by default.
const POSTGRES_CONNECTIONS: u32 = 10;
/// Ends a transaction that is silent for 10 s. The transaction of a frozen or vanished process would otherwise hold its
/// row locks until the kernel closes the connection, which takes hours. A transaction that makes progress is never
/// silent for 10 s, since it waits for nothing else.
const IDLE_LIMIT: &str = "SET idle_in_transaction_session_timeout = '10s'";

/// Opens the database of `service` and migrates it: `framework` holds the migrations of mesh, `migrations` those of the
/// service. Each of the two has its own table of applied migrations.
///
/// # Errors
///
/// [`OpenError`]: one line that says what to do. A retry helps only after that was done.
pub async fn open(
    service: &'static str,
    database: &Database,
    framework: &[Migration],
    migrations: &[Migration],
) -> Result<Store, OpenError> {
    static DRIVERS: Once = Once::new();
    DRIVERS.call_once(sqlx::any::install_default_drivers);

    let schema = Schema { framework, service: migrations };
    match database {
        Database::Sqlite(path) => sqlite(service, path, schema).await,
        Database::Postgres(url) => postgres(service, url, schema).await,
    }
}

async fn sqlite(service: &'static str, path: &Path, schema: Schema<'_>) -> Result<Store, OpenError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unwritable = |cause| OpenError::Unwritable { path: folder.to_owned(), cause };
    std::fs::create_dir_all(folder).map_err(unwritable)?;
    let lock = lock(path)?;

    // SQLite reports a file that is not writable at the first write only. The probe reports it at the start.
    let probe = File::options().create(true).append(true).open(path);
    probe.map_err(|cause| OpenError::Unwritable { path: path.to_owned(), cause })?;

    let unreachable = |cause| OpenError::Unreachable { service, cause };
    let options = options(&file_url(path).map_err(unwritable)?).map_err(unreachable)?;
    let broken = |cause| OpenError::Broken { path: path.to_owned(), cause };
    let mut first = AnyConnection::connect_with(&options).await.map_err(broken)?;
    prepare(&mut first, "").await.map_err(broken)?;
    migrate(service, &mut first, schema).await?;

    // A write through a reader is a defect, and `query_only` makes it fail.
    let readers = AnyPoolOptions::new().max_connections(SQLITE_READERS).acquire_timeout(ACQUIRE_LIMIT);
    let readers = readers.after_connect(|connection, _| Box::pin(prepare(connection, "PRAGMA query_only = ON;")));
    let readers = readers.connect_with(options).await.map_err(unreachable)?;
    let writer = Writer::Sqlite(Group::new(first, ACQUIRE_LIMIT));
    Ok(Store { readers, writer, dialect: Dialect::Sqlite, _lock: Some(Arc::new(lock)) })
}

/// A path as a URL. The path is made absolute: the first part of a relative path would be read as a host.
fn file_url(path: &Path) -> std::io::Result<String> {
    let path = std::path::absolute(path)?;
    let escaped = path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    Ok(format!("sqlite://{escaped}"))
}

/// Takes an operating-system lock on a file beside the database.
fn lock(path: &Path) -> Result<File, OpenError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let beside = PathBuf::from(beside);
    let unwritable = |cause| OpenError::Unwritable { path: beside.clone(), cause };
    let file = File::options().create(true).write(true).truncate(false).open(&beside).map_err(unwritable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(cause)) => Err(unwritable(cause)),
    }
}

/// Sets up a connection. `synchronous = FULL`: a commit survives a power cut, not only a crash. `busy_timeout` is for
/// other programs that open the same file.
async fn prepare(connection: &mut AnyConnection, more: &'static str) -> sqlx::Result<()> {
    let pragmas = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                   PRAGMA foreign_keys = ON;";
    sqlx::raw_sql(pragmas).execute(&mut *connection).await?;
    sqlx::raw_sql(more).execute(connection).await.map(drop)
}

async fn postgres(service: &'static str, url: &str, schema: Schema<'_>) -> Result<Store, OpenError> {
    let unreachable = |cause| OpenError::Unreachable { service, cause };
    let options = options(url).map_err(unreachable)?;
    // One connection outside the pool: the pool retries until its limit and then reports a timeout, not the cause.
    let first = timeout(ACQUIRE_LIMIT, AnyConnection::connect_with(&options)).await;
    first
        .map_err(|_| unreachable(sqlx::Error::PoolTimedOut))?
        .map_err(unreachable)?
        .close()
        .await
        .map_err(unreachable)?;
    let pool = AnyPoolOptions::new().max_connections(POSTGRES_CONNECTIONS).acquire_timeout(ACQUIRE_LIMIT);
    let pool = pool.after_connect(|connection, _| {
        Box::pin(async { sqlx::raw_sql(IDLE_LIMIT).execute(connection).await.map(drop) })
    });
    let pool = pool.connect_with(options).await.map_err(unreachable)?;
    migrate(service, &mut *pool.acquire().await.map_err(unreachable)?, schema).await?;
    Ok(Store { readers: pool.clone(), writer: Writer::Postgres(pool), dialect: Dialect::Postgres, _lock: None })
}

/// Options without statement logging: spans and errors hold what an operator needs.
fn options(url: &str) -> sqlx::Result<AnyConnectOptions> {
    Ok(url.parse::<AnyConnectOptions>()?.disable_statement_logging())
}

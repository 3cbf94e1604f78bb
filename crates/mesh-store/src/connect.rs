//! Opening the owned database: its lock, its connections, its schema. Whatever fails here ends the process with one
//! line, so every error says what to do.

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

/// How long a statement waits for a connection before the database counts as unavailable.
const ACQUIRE: Duration = Duration::from_secs(3);
/// Enough to keep two cores busy reading.
const SQLITE_READERS: u32 = 4;
/// Per service and process; Postgres allows 100 in all by default.
const POSTGRES_CONNECTIONS: u32 = 10;
/// A process that stands still in a transaction, or has vanished without closing its connection, would keep its rows from
/// all others until the kernel gives the connection up, which takes hours. Transactions do not wait for anything else, so
/// nothing that moves is silent in one for that long.
const LET_GO: &str = "SET idle_in_transaction_session_timeout = '10s'";

/// Opens the database of `service` and brings its schema up to date: `framework` has the tables of mesh, `migrations`
/// those of the service. The two grow apart, and each remembers in a table of its own what was applied.
///
/// # Errors
///
/// One line that says what to do.
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

    // SQLite reports a file it cannot write only at the first write: ask now, while there is somebody to tell.
    let probe = File::options().create(true).append(true).open(path);
    probe.map_err(|cause| OpenError::Unwritable { path: path.to_owned(), cause })?;

    let unreachable = |cause| OpenError::Unreachable { service, cause };
    let options = quiet(&file_url(path).map_err(unwritable)?).map_err(unreachable)?;
    let broken = |cause| OpenError::Broken { path: path.to_owned(), cause };
    let mut first = AnyConnection::connect_with(&options).await.map_err(broken)?;
    prepare(&mut first, "").await.map_err(broken)?;
    migrate(service, &mut first, schema).await?;

    // What writes past the writer is a mistake, and learns so.
    let readers = AnyPoolOptions::new().max_connections(SQLITE_READERS).acquire_timeout(ACQUIRE);
    let readers = readers.after_connect(|connection, _| Box::pin(prepare(connection, "PRAGMA query_only = ON;")));
    let readers = readers.connect_with(options).await.map_err(unreachable)?;
    let writer = Writer::Sqlite(Group::new(first, ACQUIRE));
    Ok(Store { readers, writer, dialect: Dialect::Sqlite, _lock: Some(Arc::new(lock)) })
}

/// A path as a URL. Absolute, for the first part of a relative one would be read as a host.
fn file_url(path: &Path) -> std::io::Result<String> {
    let path = std::path::absolute(path)?;
    let escaped = path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    Ok(format!("sqlite://{escaped}"))
}

/// A lock of the operating system, beside the database: it ends with the process, however that ends.
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

/// FULL: a commit survives a power cut, not just a crash. The timeout is for other people's tools at the same file.
async fn prepare(connection: &mut AnyConnection, more: &'static str) -> sqlx::Result<()> {
    let pragmas = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                   PRAGMA foreign_keys = ON;";
    sqlx::raw_sql(pragmas).execute(&mut *connection).await?;
    sqlx::raw_sql(more).execute(connection).await.map(drop)
}

async fn postgres(service: &'static str, url: &str, schema: Schema<'_>) -> Result<Store, OpenError> {
    let unreachable = |cause| OpenError::Unreachable { service, cause };
    let options = quiet(url).map_err(unreachable)?;
    // Alone, for a pool tries again and again, and then knows only that it took too long.
    let first = timeout(ACQUIRE, AnyConnection::connect_with(&options)).await;
    first
        .map_err(|_| unreachable(sqlx::Error::PoolTimedOut))?
        .map_err(unreachable)?
        .close()
        .await
        .map_err(unreachable)?;
    let pool = AnyPoolOptions::new().max_connections(POSTGRES_CONNECTIONS).acquire_timeout(ACQUIRE);
    let pool = pool
        .after_connect(|connection, _| Box::pin(async { sqlx::raw_sql(LET_GO).execute(connection).await.map(drop) }));
    let pool = pool.connect_with(options).await.map_err(unreachable)?;
    migrate(service, &mut *pool.acquire().await.map_err(unreachable)?, schema).await?;
    Ok(Store { readers: pool.clone(), writer: Writer::Postgres(pool), dialect: Dialect::Postgres, _lock: None })
}

/// Statements are the service's business: spans and errors tell what an operator needs.
fn quiet(url: &str) -> sqlx::Result<AnyConnectOptions> {
    Ok(url.parse::<AnyConnectOptions>()?.disable_statement_logging())
}

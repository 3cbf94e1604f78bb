//! Opens the database of a service: lock, connections, schema.
//!
//! A failure ends the process with one line, so each error says what to do.
//!
//! Guarantees:
//! - One process at a time opens an embedded database. The lock ends with the process, however the process ends.
//! - On SQLite a commit survives a power cut, and the readers' connections cannot write.
//!
//! See: docs/decisions/0005-one-writer-for-sqlite.md

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Once};

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AnyConnection, ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _};
use tokio::time::timeout;

use super::condition::{is_corrupt, is_name_of_another_session};
use super::connection::Connection;
use super::connections::Connections;
use super::dialect::Dialect;
use super::error::OpenError;
use super::file::DatabaseFile;
use super::group::Group;
use super::lock::Lock;
use super::log::Log;
use super::migrate::{self, Migration, Schema, migrate};
use super::pool::Pool;
use super::postgres::Prepared;
use super::probe::{Probe, Target};
use super::server;
use super::settings::{Database, Limits};
use super::sightings::Sightings;
use super::store::{Store, Writes};

/// Connections for reads: enough for two cores.
const SQLITE_READERS: u32 = 4;

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
    open_within(service, database, Limits::default(), framework, migrations).await
}

/// As [`open`], within these limits.
///
/// # Errors
///
/// As for [`open`].
pub async fn open_within(
    service: &'static str,
    database: &Database,
    limits: Limits,
    framework: &[Migration],
    migrations: &[Migration],
) -> Result<Store, OpenError> {
    static DRIVERS: Once = Once::new();
    DRIVERS.call_once(sqlx::any::install_default_drivers);

    let schema = Schema { framework, service: migrations };
    match database {
        Database::Sqlite(path) => sqlite(service, path, limits, schema).await,
        Database::Postgres(url) => postgres(service, url, limits, schema).await,
    }
}

async fn sqlite(service: &'static str, path: &Path, limits: Limits, schema: Schema<'_>) -> Result<Store, OpenError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unwritable = |cause| OpenError::Unwritable { path: folder.to_owned(), cause };
    std::fs::create_dir_all(folder).map_err(unwritable)?;
    let mut lock = Lock::take(path)?;
    lock.refuse_emptied(path)?;

    // SQLite reports a file that is not writable at the first write only. The probe reports it at the start.
    let probe = File::options().create(true).append(true).open(path);
    probe.map_err(|cause| OpenError::Unwritable { path: path.to_owned(), cause })?;

    let unreachable = |cause| OpenError::Unreachable { service, cause };
    let options = options(&file_url(path).map_err(unwritable)?).map_err(unreachable)?;
    let broken = |cause| OpenError::Broken { path: path.to_owned(), cause };
    let mut first = AnyConnection::connect_with(&options).await.map_err(broken)?;
    prepare(&mut first, "").await.map_err(broken)?;
    let sightings = Sightings::default();
    let mut first = Connection::sqlite(first, sightings.clone());
    let discard = format!("delete the files whose names begin with {}", path.display());
    let target = migrate::Target { service, dialect: Dialect::Sqlite, discard: &discard };
    let is_newer = migrate(target, &mut first, schema).await.map_err(|error| corrupt(path, error))?;
    lock.mark();

    // A write through a reader is a defect, and `query_only` makes it fail.
    let readers = AnyPoolOptions::new().max_connections(SQLITE_READERS).acquire_timeout(limits.wait);
    let readers = readers.after_connect(|connection, _| Box::pin(prepare(connection, "PRAGMA query_only = ON;")));
    let readers = readers.connect_with(options.clone()).await.map_err(unreachable)?;
    // SQLite keeps the log beside the file that a link points to.
    let file = std::fs::canonicalize(path).and_then(|path| DatabaseFile::of(&path)).map_err(unwritable)?;
    let writer = Group::new(first, file.clone(), limits.wait);
    let connections = Connections::Sqlite { readers, writer, sightings: sightings.clone() };
    let probe = Arc::new(Probe::new(Target::Sqlite(options)));
    let (writes, _lock) = (Arc::new(Writes::of(sightings)), Some(Arc::new(lock)));
    let log = Log::of(service);
    Ok(Store { connections, probe, dialect: Dialect::Sqlite, is_newer, log, writes, file: Some(file), _lock })
}

/// A migration may be the first to read a page that is corrupt.
fn corrupt(path: &Path, error: OpenError) -> OpenError {
    match error {
        OpenError::Migrate {
            cause: MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _), ..
        } if is_corrupt(&cause) => OpenError::Broken { path: path.to_owned(), cause },
        error => error,
    }
}

/// A path as a URL. The path is made absolute: the first part of a relative path would be read as a host.
fn file_url(path: &Path) -> std::io::Result<String> {
    let path = std::path::absolute(path)?;
    let escaped = path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    Ok(format!("sqlite://{escaped}"))
}

/// Sets up a connection. `synchronous = FULL`: a commit survives a power cut, not only a crash. `busy_timeout` is for
/// other programs that open the same file.
async fn prepare(connection: &mut AnyConnection, more: &'static str) -> sqlx::Result<()> {
    let pragmas = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                   PRAGMA foreign_keys = ON;";
    sqlx::raw_sql(pragmas).execute(&mut *connection).await?;
    sqlx::raw_sql(more).execute(connection).await.map(drop)
}

/// Adds those of the databases `others` that do not exist to an error that says so of one. Other errors stay as they
/// are.
pub async fn with_missing(error: OpenError, others: &[(&'static str, (&Database, Limits))]) -> OpenError {
    let OpenError::Missing { mut services, mut create } = error else { return error };
    for (service, (database, limits)) in others {
        let Database::Postgres(url) = database else { continue };
        let Ok(server) = server::options(url) else { continue };
        let answer = timeout(limits.wait, PgConnection::connect_with(&server)).await;
        if let Ok(Err(cause)) = answer
            && let OpenError::Missing { create: another, .. } = not_connected(service, &server, cause)
        {
            services = format!("{services}, `{service}`");
            create = format!("{create} && {another}");
        }
    }
    OpenError::Missing { services, create }
}

fn not_connected(service: &'static str, server: &PgConnectOptions, cause: sqlx::Error) -> OpenError {
    const NO_SUCH_DATABASE: &str = "3D000";
    let code = cause.as_database_error().and_then(|error| error.code());
    if code.is_some_and(|code| code == NO_SUCH_DATABASE) {
        return OpenError::Missing { services: format!("`{service}`"), create: server::createdb(server, "") };
    }
    OpenError::Unreachable { service, cause }
}

/// Text is UTF-8 on the wire. Postgres converts it, fails on what its encoding does not have, and measures and sorts by
/// other rules.
async fn refuse_encoding(
    service: &'static str,
    server: &PgConnectOptions,
    connection: &mut PgConnection,
) -> Result<(), OpenError> {
    // In one message: a pooler lends a session for one transaction.
    let encoding = connection.fetch_one(sqlx::raw_sql("SHOW server_encoding")).await;
    let encoding: String =
        encoding.and_then(|row| row.try_get(0)).map_err(|cause| OpenError::Unreachable { service, cause })?;
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(OpenError::Encoding { service, encoding, create: server::createdb(server, " -E UTF8 -T template0") })
}

async fn postgres(service: &'static str, url: &str, limits: Limits, schema: Schema<'_>) -> Result<Store, OpenError> {
    let unreachable = |cause| OpenError::Unreachable { service, cause };
    let options = server::options(url).map_err(unreachable)?.statement_cache_capacity(limits.statement_cache);
    let first = timeout(limits.wait, PgConnection::connect_with(&options)).await;
    let silent = |_| OpenError::Silent { service, server: server::address(&options), limit: limits.wait };
    let first = first.map_err(silent)?;
    let mut first = first.map_err(|cause| not_connected(service, &options, cause))?;
    refuse_encoding(service, &options, &mut first).await?;
    let sightings = Sightings::default();
    let mut first = Connection::postgres(first, Arc::default(), sightings.clone());
    let discard = "drop the database and create it again";
    let target = migrate::Target { service, dialect: Dialect::Postgres, discard };
    let is_newer = migrate(target, &mut first, schema).await?;
    first.close().await;
    let cached = limits.statement_cache > 0 && !shares_sessions(&options).await.map_err(unreachable)?;
    let pool = Pool::new(options.clone(), limits, Prepared::new(cached), sightings.clone());
    let probe = Arc::new(Probe::new(Target::Postgres(Box::new(options))));
    let (connections, writes) = (Connections::Postgres(pool), Arc::new(Writes::of(sightings)));
    let log = Log::of(service);
    Ok(Store { connections, probe, dialect: Dialect::Postgres, is_newer, log, writes, file: None, _lock: None })
}

/// Whether clients get sessions in which others have prepared statements, as behind a pooler that neither keeps the
/// names of clients apart nor lends a session for longer than a transaction. A pooler lends the session that it got
/// back last, so the second client finds the statement of the first.
async fn shares_sessions(options: &PgConnectOptions) -> sqlx::Result<bool> {
    for _ in 0..2 {
        let mut client = PgConnection::connect_with(options).await?;
        match sqlx::query("SELECT $1").bind("prepared").execute(&mut client).await {
            Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| is_name_of_another_session(&code)) => {
                return Ok(true);
            }
            answer => answer?,
        };
        client.close().await?;
    }
    Ok(false)
}

/// Options without statement logging: spans and errors hold what an operator needs.
fn options(url: &str) -> sqlx::Result<AnyConnectOptions> {
    Ok(url.parse::<AnyConnectOptions>()?.disable_statement_logging())
}

//! What can go wrong at a database, sorted by what the caller may do about it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use tonic::{Code, Status};

use mesh_rpc::call::error::{DOMAIN, internal, status, unavailable};

/// Why a statement or a transaction failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database is away, busy, or undid a transaction that stood in another's way. To be tried again.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// A request id came back with another request.
    #[error("request_id was used before, for another request")]
    RequestIdReused,
    /// The work was given to somebody else meanwhile: what this worker would write is not wanted any more.
    #[error("the lease on this work is lost")]
    LeaseLost,
    /// A defect: SQL that is wrong, or a row that does not decode.
    #[error("the database failed")]
    Defect(#[source] sqlx::Error),
}

impl Error {
    /// The same for somebody else whom it has struck.
    pub fn again(&self) -> Self {
        let said = |cause: &sqlx::Error| sqlx::Error::Protocol(cause.to_string());
        match self {
            Self::Unavailable(cause) => Self::Unavailable(said(cause)),
            Self::RequestIdReused => Self::RequestIdReused,
            Self::LeaseLost => Self::LeaseLost,
            Self::Defect(cause) => Self::Defect(said(cause)),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let unavailable = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            sqlx::Error::Database(database) => database.code().is_some_and(|code| passes(&code)),
            _ => false,
        };
        if unavailable { Self::Unavailable(error) } else { Self::Defect(error) }
    }
}

/// Whether what a database answered with `code` passes by itself. Postgres: connection exceptions, serialization
/// failures and deadlocks, too little of something, shutting down, a transaction that stood still. SQLite: busy, locked,
/// a disk that fails or is full.
fn passes(code: &str) -> bool {
    code.starts_with("08")
        || code.starts_with("40")
        || code.starts_with("53")
        || code.starts_with("57P")
        || code == "25P03"
        // The rest of SQLite's codes only says more about these: busy, locked, I/O, full.
        || code.parse::<u32>().is_ok_and(|code| code < 10_000 && matches!(code & 0xff, 5 | 6 | 10 | 13))
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(cause) => {
                let mut status =
                    unavailable("DATABASE_UNAVAILABLE", "the service's database is away", Duration::from_millis(500));
                status.set_source(Arc::new(cause));
                status
            }
            Error::RequestIdReused => status(Code::InvalidArgument, DOMAIN, "REQUEST_ID_REUSED", error.to_string()),
            Error::LeaseLost => status(Code::Aborted, DOMAIN, "LEASE_LOST", error.to_string()),
            Error::Defect(cause) => internal(Arc::new(cause)),
        }
    }
}

/// Why a service's database cannot be opened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it is")]
pub enum OpenError {
    #[error(
        "cannot write to {path} ({cause}): make it writable for this user, or name another folder with --data-dir or \
         MESH__DATA_DIR"
    )]
    Unwritable { path: PathBuf, cause: std::io::Error },
    #[error("{path} is open in another process: stop that one, or name another folder with --data-dir")]
    Locked { path: PathBuf },
    #[error("{path} cannot be opened ({cause}): move it away, or restore a backup")]
    Broken { path: PathBuf, cause: sqlx::Error },
    #[error("cannot open the database of `{service}` ({cause}): check services.{service}.database_url")]
    Unreachable { service: &'static str, cause: sqlx::Error },
    #[error(
        "the database of `{service}` is newer than this program, which knows its schema only up to version {known} and \
         found {found}: start the newer program, or restore a backup"
    )]
    Newer { service: &'static str, known: i64, found: i64 },
    #[error(
        "migration {version} of `{service}` is not what was applied to its database: an applied migration must never \
         change; restore its text and add a new one"
    )]
    Edited { service: &'static str, version: i64 },
    #[error("cannot migrate the database of `{service}`: {cause}")]
    Migrate { service: &'static str, cause: MigrateError },
}

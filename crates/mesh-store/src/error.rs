//! Failures of a database, sorted by what the caller may do about them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use tonic::{Code, Status};

use mesh_rpc::call::error::{DOMAIN, internal, status, unavailable};

/// Why a statement or a transaction failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached, is overloaded, or rolled back a transaction that conflicted with another one. A
    /// retry may succeed. After a failed commit it is not known whether the data was written.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// The `request_id` belongs to a different request. Do not retry: use a new id.
    #[error("request_id was used before, for another request; use a new one")]
    RequestIdReused,
    /// Another worker has claimed the operation, so the write of this worker is refused. Do not retry: stop the work.
    #[error("the lease on this operation is lost")]
    LeaseLost,
    /// A defect in the program: wrong SQL, or a row that does not decode. A retry fails again.
    #[error("the database failed")]
    Defect(#[source] sqlx::Error),
}

impl Error {
    /// A copy for another caller that the same failure affects. The copy keeps the text of the cause, not its type.
    pub fn duplicate(&self) -> Self {
        let copy = |cause: &sqlx::Error| sqlx::Error::Protocol(cause.to_string());
        match self {
            Self::Unavailable(cause) => Self::Unavailable(copy(cause)),
            Self::RequestIdReused => Self::RequestIdReused,
            Self::LeaseLost => Self::LeaseLost,
            Self::Defect(cause) => Self::Defect(copy(cause)),
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
            sqlx::Error::Database(database) => database.code().is_some_and(|code| is_transient(&code)),
            _ => false,
        };
        if unavailable { Self::Unavailable(error) } else { Self::Defect(error) }
    }
}

/// Whether a failure with this code is transient. Postgres: connection exceptions, serialization failures, deadlocks,
/// insufficient resources, shutdown, an idle transaction. SQLite: busy, locked, I/O errors, a full disk.
fn is_transient(code: &str) -> bool {
    code.starts_with("08")
        || code.starts_with("40")
        || code.starts_with("53")
        || code.starts_with("57P")
        || code == "25P03"
        // The low byte of SQLite's extended code is the primary code: busy, locked, I/O, full.
        || code.parse::<u32>().is_ok_and(|code| code < 10_000 && matches!(code & 0xff, 5 | 6 | 10 | 13))
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(cause) => {
                let mut status = unavailable(
                    "DATABASE_UNAVAILABLE",
                    "the service's database is unavailable; retry later",
                    Duration::from_millis(500),
                );
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
        "the database of `{service}` is newer than this program: its schema has version {found}, and this program \
         knows versions up to {known}: start the newer program, or restore a backup"
    )]
    Newer { service: &'static str, known: i64, found: i64 },
    #[error(
        "migration {version} of `{service}` differs from the one that was applied to its database: restore its text, \
         and put the change into a new migration"
    )]
    Edited { service: &'static str, version: i64 },
    #[error("cannot migrate the database of `{service}`: {cause}")]
    Migrate { service: &'static str, cause: MigrateError },
}

//! What can go wrong at a database, sorted by what the caller may do about it.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Code, Status};

use crate::error::{DOMAIN, internal, status, unavailable};

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
    pub(crate) fn again(&self) -> Self {
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

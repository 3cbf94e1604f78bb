//! Failures of a database, sorted by what the caller may do about them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use tonic::{Code, Status};

use mesh_rpc::call::error::{DOMAIN, internal, status, unavailable_with};

use super::condition::{Condition, is_corrupt};

/// Why a statement or a transaction failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database fails for a while; the [`Condition`] says how. A retry may succeed. After a failed commit it is not
    /// known whether the data was written.
    #[error("{}", .0.condition)]
    Unavailable(#[source] Unavailable),
    /// The `request_id` belongs to a different request. Do not retry: use a new id.
    #[error("request_id was used before, for another request; use a new one")]
    RequestIdReused,
    /// Another worker has claimed the operation, so the write of this worker is refused. Do not retry: stop the work.
    #[error("the lease on this operation is lost")]
    LeaseLost,
    /// The write would publish an event that is too far from the first cause of its chain: services answer each other's
    /// events without an end. A retry fails again.
    #[error("events cause each other without an end: this one would have {hops} causes before it")]
    CascadeTooDeep {
        /// The number of events before it.
        hops: u32,
    },
    /// The database is damaged. A retry fails again: an operator restores a backup.
    #[error("the database is damaged")]
    Corrupt(#[source] sqlx::Error),
    /// A defect in the program: wrong SQL, or a row that does not decode. A retry fails again.
    #[error("the database failed")]
    Defect(#[source] sqlx::Error),
}

/// A condition of the database, and the error that showed it.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct Unavailable {
    /// What is wrong with the database.
    pub condition: Condition,
    cause: sqlx::Error,
}

impl Error {
    /// [`Error::Unavailable`] under this condition.
    pub fn unavailable(condition: Condition, cause: sqlx::Error) -> Self {
        Self::Unavailable(Unavailable { condition, cause })
    }

    /// What is wrong with the database; `None` if the error is about something else.
    pub fn condition(&self) -> Option<Condition> {
        if let Self::Unavailable(unavailable) = self { Some(unavailable.condition) } else { None }
    }

    /// A copy for another caller that the same failure affects. The copy keeps the text of the cause, not its type.
    pub fn duplicate(&self) -> Self {
        let copy = |cause: &sqlx::Error| sqlx::Error::Protocol(cause.to_string());
        match self {
            Self::Unavailable(unavailable) => Self::unavailable(unavailable.condition, copy(&unavailable.cause)),
            Self::RequestIdReused => Self::RequestIdReused,
            Self::LeaseLost => Self::LeaseLost,
            Self::CascadeTooDeep { hops } => Self::CascadeTooDeep { hops: *hops },
            Self::Corrupt(cause) => Self::Corrupt(copy(cause)),
            Self::Defect(cause) => Self::Defect(copy(cause)),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match Condition::of(&error) {
            Some(condition) => Self::unavailable(condition, error),
            None if is_corrupt(&error) => Self::Corrupt(error),
            None => Self::Defect(error),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(unavailable) => {
                let condition = unavailable.condition;
                let message = format!("{condition}; retry later");
                let metadata = [("condition", condition.name().to_owned())];
                let mut status = unavailable_with("DATABASE_UNAVAILABLE", message, condition.retry_delay(), metadata);
                status.set_source(Arc::new(unavailable));
                status
            }
            Error::RequestIdReused => status(Code::InvalidArgument, DOMAIN, "REQUEST_ID_REUSED", error.to_string()),
            Error::LeaseLost => status(Code::Aborted, DOMAIN, "LEASE_LOST", error.to_string()),
            Error::CascadeTooDeep { .. } => {
                status(Code::FailedPrecondition, DOMAIN, "CASCADE_TOO_DEEP", error.to_string())
            }
            Error::Corrupt(cause) => {
                let mut status = status(Code::DataLoss, DOMAIN, "DATABASE_CORRUPT", "the database is damaged");
                status.set_source(Arc::new(cause));
                status
            }
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
    #[error("{path} cannot be opened ({}): move it away, or restore a backup", plain(.cause))]
    Broken { path: PathBuf, cause: sqlx::Error },
    #[error(
        "{path} is empty or missing, and its service had data in it: restore a backup; or, to begin without data, delete \
         the files whose names begin with {path}"
    )]
    Emptied { path: PathBuf },
    #[error("cannot open the database of `{service}` ({}): check services.{service}.database_url", plain(.cause))]
    Unreachable { service: &'static str, cause: sqlx::Error },
    #[error(
        "the Postgres server of `{service}` at {server} does not answer within {} ms: check that \
         services.{service}.database_url names the server, that the server runs, and that no firewall drops packets to it",
        .limit.as_millis()
    )]
    Silent { service: &'static str, server: String, limit: Duration },
    #[error("no database exists for {services}: create what is missing with `{create}`")]
    Missing { services: String, create: String },
    #[error(
        "the database of `{service}` has the encoding {encoding}, and services need UTF8: name a database that was \
         created with `{create}`"
    )]
    Encoding { service: &'static str, encoding: String, create: String },
    #[error(
        "the database of `{service}` is newer than this program: its schema has version {found} and supports programs \
         from version {floor} on; this program knows versions up to {known}: start a newer program, or restore a backup"
    )]
    Newer { service: &'static str, known: i64, found: i64, floor: i64 },
    #[error(
        "migration {version} of `{service}` differs from the one that was applied to its database: restore its text, \
         and put the change into a new migration; or, while nothing in the database is needed, {discard}"
    )]
    Edited { service: &'static str, version: i64, discard: String },
    #[error(
        "migration {version} of `{service}` was interrupted: complete its changes by hand and set `success` of its row \
         in {table}, or restore a backup"
    )]
    Interrupted { service: &'static str, version: i64, table: &'static str },
    #[error("cannot migrate the database of `{service}`: {}", plain_migration(.cause))]
    Migrate { service: &'static str, cause: MigrateError },
}

/// What the database says. The driver adds the line in the source of Postgres that reported it.
fn plain(cause: &sqlx::Error) -> String {
    cause.as_database_error().map_or_else(|| cause.to_string(), |error| error.message().to_owned())
}

fn plain_migration(cause: &MigrateError) -> String {
    match cause {
        MigrateError::Execute(cause) => plain(cause),
        MigrateError::ExecuteMigration(cause, version) => format!("migration {version}: {}", plain(cause)),
        cause => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;
    use tonic_types::StatusExt as _;

    #[test]
    fn unavailable_says_its_condition_and_never_the_text_of_the_database() {
        let secret = || sqlx::Error::Protocol("no space on /var/lib/secret".to_owned());
        for (condition, name, delay) in [
            (Condition::Away, "away", 500),
            (Condition::Busy, "busy", 500),
            (Condition::NoFreeConnection, "no-free-connection", 500),
            (Condition::Full, "full", 10_000),
            (Condition::ReadOnly, "read-only", 10_000),
            (Condition::Moved, "moved", 10_000),
        ] {
            let status = Status::from(Error::unavailable(condition, secret()).duplicate());
            assert_eq!(status.code(), Code::Unavailable);
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!((info.reason.as_str(), info.domain.as_str()), ("DATABASE_UNAVAILABLE", "mesh"));
            assert_eq!(info.metadata["condition"], name);
            assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(delay)));
            assert!(status.source().unwrap().to_string().contains("secret"), "for the log");
            assert!(!format!("{:?}", status.into_http::<()>().headers()).contains("secret"));
        }
        assert_eq!(Error::from(sqlx::Error::PoolTimedOut).condition(), Some(Condition::NoFreeConnection));
    }
}

//! What is wrong with a database that fails for a while, by the error code of its driver.
//!
//! See: docs/decisions/0025-a-failing-database-is-no-defect.md

use std::fmt;
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

/// What is wrong with a database. Clients read it in the metadata `condition` of `DATABASE_UNAVAILABLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It cannot be reached, refuses the login, shuts down, or cannot read its files.
    Away,
    /// Its disk is full. Reads work.
    Full,
    /// It accepts no writes, as a standby does. Reads work.
    ReadOnly,
    /// Its file was removed or replaced while it was open. What is written now is lost.
    Moved,
    /// All connections are in use, in this process or at the server.
    NoFreeConnection,
    /// A statement waited too long for a lock, ran too long, or conflicted with another transaction.
    Busy,
}

impl Condition {
    /// The condition that an error of a driver shows; `None` if the error is a defect of the program.
    pub(super) fn of(error: &sqlx::Error) -> Option<Self> {
        match error {
            sqlx::Error::PoolTimedOut => Some(Self::NoFreeConnection),
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Some(Self::Away)
            }
            // The next attempt plans the statement again.
            sqlx::Error::Database(database) if is_stale_plan(&**database) => Some(Self::Busy),
            sqlx::Error::Database(database) => {
                let code = database.code()?;
                // SQLite's codes are numbers below 10,000; those of Postgres have five characters.
                match code.parse::<u32>() {
                    Ok(sqlite) if code.len() < 5 => Self::of_sqlite(sqlite),
                    _ => Self::of_postgres(&code),
                }
            }
            _ => None,
        }
    }

    /// See <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
    fn of_postgres(code: &str) -> Option<Self> {
        match code {
            "25006" => Some(Self::ReadOnly),
            "53100" => Some(Self::Full),
            "53300" => Some(Self::NoFreeConnection),
            // A statement was cancelled, a lock was not free in time, a transaction was idle for too long.
            "57014" | "55P03" | "25P03" | "55006" => Some(Self::Busy),
            // The clients of a pooler share prepared statements. The next attempt uses none.
            _ if is_name_of_another_session(code) => Some(Self::Busy),
            // The database accepts no connections, or is gone.
            "55000" | "3D000" => Some(Self::Away),
            // Connection exceptions, a refused login, a shutdown, an error of the disk.
            _ if ["08", "28", "57P", "58"].iter().any(|class| code.starts_with(class)) => Some(Self::Away),
            // Serialization failures and deadlocks, insufficient resources.
            _ if ["40", "53"].iter().any(|class| code.starts_with(class)) => Some(Self::Busy),
            _ => None,
        }
    }

    /// See <https://www.sqlite.org/rescode.html>. The low byte of an extended code is the primary code.
    fn of_sqlite(code: u32) -> Option<Self> {
        const READONLY_DBMOVED: u32 = 1032;
        match (code, code & 0xff) {
            (READONLY_DBMOVED, _) => Some(Self::Moved),
            // Busy, locked, out of memory, interrupted, a lost race for a lock of the write-ahead log.
            (_, 5 | 6 | 7 | 9 | 15) => Some(Self::Busy),
            (_, 8) => Some(Self::ReadOnly),
            // An I/O error, a file that cannot be opened.
            (_, 10 | 14) => Some(Self::Away),
            (_, 13) => Some(Self::Full),
            _ => None,
        }
    }

    /// The delay after which a caller may retry. It is longer for a condition that an operator has to end.
    pub(super) fn retry_delay(self) -> Duration {
        match self {
            Self::Away | Self::NoFreeConnection | Self::Busy => Duration::from_millis(500),
            Self::Full | Self::ReadOnly | Self::Moved => Duration::from_secs(10),
        }
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Full => "full",
            Self::ReadOnly => "read-only",
            Self::Moved => "moved",
            Self::NoFreeConnection => "no-free-connection",
            Self::Busy => "busy",
        }
    }
}

/// A sentence about the database, for clients and operators.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Away => "the database is away",
            Self::Full => "the disk of the database is full",
            Self::ReadOnly => "the database is read-only",
            Self::Moved => "the file of the database was moved or removed",
            Self::NoFreeConnection => "no connection to the database is free",
            Self::Busy => "the database is busy: the statement waited or ran too long, or conflicted with another one",
        })
    }
}

/// Whether an error with this code says that clients share sessions, as behind a pooler: a prepared statement is
/// unknown or exists already.
pub(super) fn is_name_of_another_session(code: &str) -> bool {
    matches!(code, "26000" | "42P05")
}

/// Whether an error of Postgres says that the result of a prepared statement has changed. Its code stands for all that
/// is not supported; its text may be translated.
pub(super) fn is_stale_plan(error: &dyn DatabaseError) -> bool {
    let postgres = error.try_downcast_ref::<PgDatabaseError>();
    postgres.is_some_and(|error| error.code() == "0A000" && error.routine() == Some("RevalidateCachedQuery"))
}

/// Whether an error shows a damaged database.
pub(super) fn is_corrupt(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(database) = error else { return false };
    database.code().is_some_and(|code| match code.parse::<u32>() {
        // SQLITE_CORRUPT, SQLITE_NOTADB.
        Ok(sqlite) if code.len() < 5 => matches!(sqlite & 0xff, 11 | 26),
        // data_corrupted, index_corrupted.
        _ => matches!(&*code, "XX001" | "XX002"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn condition_of_a_postgres_error_follows_its_code() {
        for (condition, codes) in [
            (Some(Condition::ReadOnly), &["25006"][..]),
            (Some(Condition::Full), &["53100"]),
            (Some(Condition::NoFreeConnection), &["53300"]),
            (Some(Condition::Busy), &["57014", "55P03", "25P03", "40001", "40P01", "53200", "53400"]),
            (Some(Condition::Away), &["08006", "28P01", "28000", "55000", "3D000", "57P01", "57P02", "57P03", "58030"]),
            // A defect: a missing table, a wrong type, a violated key, a permission that was never granted.
            (None, &["42P01", "42804", "23505", "42501", "0A000", "XX000", "25P02"]),
        ] {
            for code in codes {
                assert_eq!(Condition::of_postgres(code), condition, "{code}");
            }
        }
    }

    #[test]
    fn condition_of_a_sqlite_error_follows_its_primary_code() {
        for (condition, codes) in [
            (Some(Condition::Busy), &[5, 6, 7, 9, 15, 261, 517][..]),
            (Some(Condition::ReadOnly), &[8, 264, 776]),
            (Some(Condition::Moved), &[1032]),
            (Some(Condition::Away), &[10, 14, 266, 778, 4874, 270]),
            (Some(Condition::Full), &[13]),
            (None, &[1, 19, 20, 25, 1555, 2067]),
        ] {
            for code in codes {
                assert_eq!(Condition::of_sqlite(*code), condition, "{code}");
            }
        }
    }
}

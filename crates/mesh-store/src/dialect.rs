//! The differences between SQLite and Postgres, in one place.

use std::time::Duration;

/// The length of a lease on a row, by the clock that all replicas share.
pub const LEASE: Duration = Duration::from_secs(10);
/// A lease that ends later than this was taken before the clock went back.
const LONGEST_LEASE: Duration = Duration::from_secs(15);

/// The kind of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// An embedded database with one writer and one process.
    Sqlite,
    /// A server that several replicas may share.
    Postgres,
}

impl Dialect {
    /// The query for the time of the clock that all replicas share, in microseconds since 1970. `None` for SQLite,
    /// which has no replicas: use the clock of this process, [`now`](crate::now).
    pub fn shared_clock(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"),
        }
    }

    /// The expression for the end of a [`LEASE`] that begins now. 0 for SQLite: its one process needs none.
    pub fn lease_end(self) -> String {
        match self.shared_clock() {
            Some(clock) => format!("({clock}) + {}", LEASE.as_micros()),
            None => "0".to_owned(),
        }
    }

    /// The condition that a lease is held whose end is in this column. Never true for SQLite.
    pub fn lease_is_held(self, column: &str) -> String {
        match self.shared_clock() {
            Some(clock) => format!("{column} BETWEEN ({clock}) AND ({clock}) + {}", LONGEST_LEASE.as_micros()),
            None => "1 = 0".to_owned(),
        }
    }

    /// The suffix of a SELECT that locks its rows for this transaction. Empty for SQLite: its one writer is the lock.
    pub fn lock_rows(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE",
        }
    }

    /// The suffix of a SELECT that locks its rows and skips rows that another transaction has locked.
    pub fn lock_free_rows(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }

    /// The query for the number of tables with the name `$1`: 0 or 1.
    pub(crate) fn tables_named(self) -> &'static str {
        match self {
            Self::Sqlite => "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = $1",
            Self::Postgres => "SELECT COUNT(*) FROM pg_class WHERE oid = to_regclass($1)",
        }
    }

    /// Whether this process is the only one that uses the database. Work without an end then belonged to an earlier run
    /// of this process.
    pub fn is_alone(self) -> bool {
        self == Self::Sqlite
    }
}

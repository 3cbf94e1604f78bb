//! Where SQLite and Postgres must differ, they differ here.

/// Which of the two a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// An embedded database, with one writer.
    Sqlite,
    /// A server that replicas may share.
    Postgres,
}

impl Dialect {
    /// How to ask for the time, by the one clock that all replicas share: the database's, in microseconds since 1970.
    /// `None` if there are no replicas: then it is that of this process.
    pub fn shared_clock(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"),
        }
    }

    /// Behind a SELECT: keeps the rows for this transaction. SQLite has one writer, and needs no more.
    pub fn lock_rows(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE",
        }
    }

    /// The same, passing over rows that somebody else keeps.
    pub fn lock_free_rows(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }

    /// Whether this process is the only one at the database, so that whatever was begun and not ended was its own.
    pub fn is_alone(self) -> bool {
        self == Self::Sqlite
    }
}

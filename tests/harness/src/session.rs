//! SQL on one connection, without the program under test.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};
use tokio::runtime::Runtime;

/// A connection that stays open, with the locks that its transaction holds.
pub struct Session {
    connection: AnyConnection,
    runtime: Runtime,
}

impl Session {
    /// Connects to the database at a URL.
    pub fn open(url: &str) -> Self {
        sqlx::any::install_default_drivers();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let connection = runtime.block_on(AnyConnection::connect(url)).expect("the database answers");
        let mut session = Self { connection, runtime };
        if url.starts_with("sqlite:") {
            session.execute("PRAGMA busy_timeout = 30000");
        }
        session
    }

    /// Executes one statement, or several.
    pub fn execute(&mut self, statements: &str) {
        let statements = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut self.connection);
        self.runtime.block_on(statements).expect("the statement is right");
    }

    /// The rows of a query.
    pub fn rows<T>(&mut self, query: &str, read: impl FnMut(&AnyRow) -> T) -> Vec<T> {
        let rows = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_all(&mut self.connection);
        self.runtime.block_on(rows).expect("the query is right").iter().map(read).collect()
    }

    /// The number that a `SELECT count(*)` returns.
    pub fn count(&mut self, query: &str) -> i64 {
        self.numbers(query)[0]
    }

    /// The texts of a query with one column.
    pub fn texts(&mut self, query: &str) -> Vec<String> {
        self.rows(query, |row| row.get(0))
    }

    /// The numbers of a query with one column.
    pub fn numbers(&mut self, query: &str) -> Vec<i64> {
        self.rows(query, |row| row.get(0))
    }

    /// Whether a connection to this Postgres database waits for a lock.
    pub fn waits_for_a_lock(&mut self) -> bool {
        let waiting = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        self.count(waiting) > 0
    }
}

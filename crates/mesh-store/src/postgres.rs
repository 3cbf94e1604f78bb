//! A connection to Postgres with the types of `Any`, and its prepared statements.
//!
//! The plan of a prepared statement is stale once its result has other columns: a column was added to a table of which
//! a statement selects `*`, or a column got another type. Postgres fails the statement and aborts its transaction.
//!
//! Guarantees:
//! - A stale plan of the first statement of a transaction stays unseen: the transaction begins again, and the statement
//!   is planned again.
//! - So does a statement whose name another client of a pooler has taken, or replaced: it runs without one, and from
//!   then on all do.
//! - After a stale plan, each connection of the pool prepares its statements again before its next transaction.
//!
//! See: docs/decisions/0024-connections-to-postgres.md

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use sqlx::any::{AnyArguments, AnyQueryResult, AnyRow};
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgArguments, PgQueryResult, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection as _, Either, Executor as _, PgConnection, Postgres, SqlStr};

use super::condition::{is_name_of_another_session, is_stale_plan};

/// What the connections of a pool know about their prepared statements.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// Whether statements are prepared once and kept.
    kept: AtomicBool,
    /// The stale plans that were seen.
    stale: AtomicU64,
}

impl Prepared {
    pub(super) fn new(kept: bool) -> Self {
        Self { kept: AtomicBool::new(kept), stale: AtomicU64::new(0) }
    }

    pub(super) fn are_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    /// Looks for an error that says that clients share sessions, or that a plan is stale.
    fn seen<T>(&self, result: sqlx::Result<T>) -> sqlx::Result<T> {
        if let Err(sqlx::Error::Database(error)) = &result {
            if is_of_another_session(&**error) {
                self.kept.store(false, Ordering::Relaxed);
            }
            if is_stale_plan(&**error) {
                self.stale.fetch_add(1, Ordering::Relaxed);
            }
        }
        result
    }
}

#[derive(Debug)]
pub(super) struct PgLink {
    pub(super) connection: PgConnection,
    prepared: Arc<Prepared>,
    /// The stale plans that were seen before the statements of this connection were prepared.
    stale: u64,
    /// The statements that began the transaction, until the next one.
    begun: Option<SqlStr>,
}

type Step = Either<PgQueryResult, PgRow>;

impl PgLink {
    pub(super) fn new(connection: PgConnection, prepared: Arc<Prepared>) -> Self {
        let stale = prepared.stale.load(Ordering::Relaxed);
        Self { connection, prepared, stale, begun: None }
    }

    /// Begins a transaction with these statements.
    pub(super) async fn begin(&mut self, begin: SqlStr) -> sqlx::Result<()> {
        if self.stale != self.prepared.stale.load(Ordering::Relaxed) {
            self.forget_statements().await?;
        }
        self.connection.execute(sqlx::raw_sql(begin.clone())).await?;
        self.begun = Some(begin);
        Ok(())
    }

    /// Executes a statement; without arguments, one or several. The rows of the first statement of a transaction are
    /// complete before the caller sees the first.
    pub(super) fn run(
        &mut self,
        sql: SqlStr,
        arguments: Option<AnyArguments>,
        persistent: bool,
    ) -> BoxStream<'_, sqlx::Result<Either<AnyQueryResult, AnyRow>>> {
        let prepared = Arc::clone(&self.prepared);
        let begun = self.begun.take();
        let steps = match arguments.map(AnyArguments::convert_into::<PgArguments>).transpose() {
            Err(error) => return stream::once(future::ready(Err(sqlx::Error::Encode(error)))).boxed(),
            Ok(None) => self.connection.fetch_many(sqlx::raw_sql(sql)),
            Ok(Some(arguments)) => match begun.filter(|_| persistent && prepared.are_kept()) {
                Some(begin) => stream::once(self.first(begin, sql, arguments))
                    .map_ok(|steps| stream::iter(steps.into_iter().map(Ok)))
                    .try_flatten()
                    .boxed(),
                None => self.connection.fetch_many(query(sql, arguments, persistent && prepared.are_kept())),
            },
        };
        steps.map(move |step| prepared.seen(step).and_then(convert)).boxed()
    }

    /// Executes the first statement of a transaction. Nothing precedes it that the caller has seen.
    async fn first(&mut self, begin: SqlStr, sql: SqlStr, arguments: PgArguments) -> sqlx::Result<Vec<Step>> {
        let again = arguments.clone();
        let steps = self.connection.fetch_many(query(sql.clone(), arguments, true)).try_collect().await;
        match self.prepared.seen(steps) {
            Err(sqlx::Error::Database(error)) if is_stale_plan(&*error) || is_of_another_session(&*error) => {
                self.forget_statements().await?;
                // Two constants and numbers.
                let begin = AssertSqlSafe(format!("ROLLBACK; {}", begin.as_str()));
                self.connection.execute(sqlx::raw_sql(begin)).await?;
                // Without a name: a pooler may keep the stale plan under the name that it gives to this text.
                self.connection.fetch_many(query(sql, again, false)).try_collect().await
            }
            steps => steps,
        }
    }

    async fn forget_statements(&mut self) -> sqlx::Result<()> {
        self.stale = self.prepared.stale.load(Ordering::Relaxed);
        self.connection.clear_cached_statements().await
    }
}

/// Whether the session has the prepared statements of others.
fn is_of_another_session(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| is_name_of_another_session(&code))
}

fn query(sql: SqlStr, arguments: PgArguments, persistent: bool) -> Query<'static, Postgres, PgArguments> {
    sqlx::query_with(sql, arguments).persistent(persistent)
}

fn convert(step: Step) -> sqlx::Result<Either<AnyQueryResult, AnyRow>> {
    match step {
        Either::Left(done) => {
            Ok(Either::Left(AnyQueryResult { rows_affected: done.rows_affected(), last_insert_id: None }))
        }
        Either::Right(row) => AnyRow::try_from(&row).map(Either::Right),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use harness::Postgres;
    use sqlx::{Arguments as _, Row as _, SqlSafeStr as _};

    /// A link to a session in which another client has prepared a statement. `None`, with a note, if no Postgres is
    /// installed.
    async fn shared() -> Option<PgLink> {
        // The start of a server blocks, so it runs outside of the runtime.
        let url = tokio::task::spawn_blocking(|| Postgres::shared().map(|server| server.database("shared_session")));
        let mut connection = PgConnection::connect(&url.await.unwrap()?).await.unwrap();
        connection.execute("PREPARE sqlx_s_1 AS SELECT 'of another client'").await.unwrap();
        Some(PgLink::new(connection, Arc::new(Prepared::new(true))))
    }

    async fn select(link: &mut PgLink, number: i64) -> sqlx::Result<i64> {
        let mut arguments = AnyArguments::default();
        arguments.add(number).unwrap();
        let sql = AssertSqlSafe("SELECT $1").into_sql_str();
        let steps: Vec<_> = link.run(sql, Some(arguments), true).try_collect().await?;
        steps.into_iter().find_map(Either::right).unwrap().try_get(0)
    }

    #[tokio::test]
    #[ignore = "needs Postgres: .ci/full"]
    async fn first_statement_whose_name_is_taken_runs_without_one() {
        let Some(mut link) = shared().await else { return };
        link.begin(AssertSqlSafe("BEGIN").into_sql_str()).await.unwrap();
        assert_eq!(select(&mut link, 7).await.unwrap(), 7);
        assert!(!link.prepared.are_kept());
        assert_eq!(select(&mut link, 8).await.unwrap(), 8, "in the same transaction");
    }
}

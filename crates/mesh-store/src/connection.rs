//! A connection: executes the statements of a transaction, with the same types for both databases.
//!
//! sqlx's `AnyConnection` cannot connect to Postgres through a pooler: it always sends a startup parameter that poolers
//! refuse, and its statements always have names, which clients of a pooler share. So a connection to Postgres is one of
//! sqlx's Postgres driver, see `postgres`.
//!
//! See: docs/decisions/0024-connections-to-postgres.md

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{self, BoxFuture, FutureExt as _};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use sqlx::any::{AnyQueryResult, AnyRow, AnyStatement, AnyTypeInfo};
use sqlx::{Any, AnyConnection, Connection as _, Either, Execute, Executor, PgConnection, SqlSafeStr, SqlStr};

use tokio::time::{Instant, timeout_at};

use super::condition::is_name_of_another_session;
use super::holders::Holder;
use super::postgres::{PgLink, Prepared};
use super::sightings::Sightings;

/// A connection in a transaction: `sqlx::query(…).execute(&mut *connection)`.
#[derive(Debug)]
pub struct Connection {
    link: Link,
    /// The transaction that has this connection.
    holder: Option<Arc<Holder>>,
    /// Whether the connection must not be used for another transaction.
    stale: bool,
    /// Whether a statement of the transaction failed on Postgres, which then aborts the transaction.
    failed: bool,
    sightings: Sightings,
    /// The longest wait for the end of a statement. The server ends it sooner, unless it does not answer.
    wait: Option<Duration>,
}

#[derive(Debug)]
pub(super) enum Link {
    Sqlite(AnyConnection),
    Postgres(PgLink),
}

impl Connection {
    pub(super) fn sqlite(connection: AnyConnection, sightings: Sightings) -> Self {
        Self::new(Link::Sqlite(connection), sightings)
    }

    pub(super) fn postgres(connection: PgConnection, prepared: Arc<Prepared>, sightings: Sightings) -> Self {
        Self::new(Link::Postgres(PgLink::new(connection, prepared)), sightings)
    }

    fn new(link: Link, sightings: Sightings) -> Self {
        Self { link, holder: None, stale: false, failed: false, sightings, wait: None }
    }

    /// The connection of the driver.
    pub(super) fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Whether the connection must not be used for another transaction: its session became read-only, or holds the
    /// prepared statements of others.
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Whether a statement of the transaction failed on Postgres.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Sets the limit of the wait for a statement.
    pub(super) fn bound(&mut self, wait: Duration) {
        self.wait = Some(wait);
    }

    /// Begins a transaction with these statements.
    pub(super) async fn begin(&mut self, begin: SqlStr) -> sqlx::Result<()> {
        self.failed = false;
        let begun = match &mut self.link {
            Link::Sqlite(connection) => connection.execute(sqlx::raw_sql(begin)).await.map(drop),
            Link::Postgres(link) => link.begin(begin).await,
        };
        self.sightings.of(begun)
    }

    /// Reports the use of this connection to the transaction that has it.
    pub(super) fn hold(&mut self, holder: Option<Arc<Holder>>) {
        self.holder = holder;
    }

    /// Executes statements that open or close a transaction.
    pub(super) async fn control(&mut self, sql: impl SqlSafeStr) -> sqlx::Result<()> {
        let sql = sql.into_sql_str();
        let done = match &mut self.link {
            Link::Sqlite(connection) => connection.execute(sqlx::raw_sql(sql)).await.map(drop),
            Link::Postgres(link) => link.connection.execute(sqlx::raw_sql(sql)).await.map(drop),
        };
        self.sightings.of(done)
    }

    /// Closes the connection in an orderly way.
    pub(super) async fn close(self) {
        // The connection is gone either way.
        let _ = match self.link {
            Link::Sqlite(connection) => connection.close().await,
            Link::Postgres(link) => link.connection.close().await,
        };
    }

    /// The parts that a statement needs while it runs.
    fn parts(&mut self) -> (&mut Link, Running<'_>) {
        let holder = self.holder.as_deref();
        if let Some(holder) = holder {
            holder.statement_begins();
        }
        let (stale, failed, sightings) = (&mut self.stale, &mut self.failed, &self.sightings);
        (&mut self.link, Running { holder, stale, failed, sightings })
    }
}

/// A statement that runs. The end of the statement drops it.
struct Running<'c> {
    holder: Option<&'c Holder>,
    stale: &'c mut bool,
    failed: &'c mut bool,
    sightings: &'c Sightings,
}

impl Running<'_> {
    fn seen<T>(&mut self, result: sqlx::Result<T>) -> sqlx::Result<T> {
        if let Err(sqlx::Error::Database(error)) = &result {
            *self.stale |= error.code().is_some_and(|code| outlives_its_transaction(&code));
            *self.failed = true;
        }
        self.sightings.of(result)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(holder) = self.holder {
            holder.statement_ends();
        }
    }
}

/// Whether an error with this code of Postgres stays with the session: the session is read-only, or a prepared
/// statement is unknown or of somebody else.
fn outlives_its_transaction(code: &str) -> bool {
    code == "25006" || is_name_of_another_session(code)
}

type Step = sqlx::Result<Either<AnyQueryResult, AnyRow>>;

/// Ends with an error at a point in time: a server that is gone without a word would be waited for until TCP gives up.
fn ending(steps: BoxStream<'_, Step>, until: Instant) -> BoxStream<'_, Step> {
    stream::unfold(Some(steps), move |steps| async move {
        let mut steps = steps?;
        match timeout_at(until, steps.next()).await {
            Ok(step) => Some((step?, Some(steps))),
            Err(_) => Some((Err(away()), None)),
        }
    })
    .boxed()
}

/// The server does not answer.
pub(super) fn away() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
}

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, mut query: E) -> BoxStream<'e, Step>
    where
        'c: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let until = self.wait.map(|wait| Instant::now() + wait);
        let (link, mut running) = self.parts();
        let steps = match link {
            Link::Sqlite(connection) => connection.fetch_many(query),
            Link::Postgres(link) => {
                let arguments = match query.take_arguments() {
                    Err(error) => return stream::once(future::ready(Err(sqlx::Error::Encode(error)))).boxed(),
                    Ok(arguments) => arguments,
                };
                let persistent = query.persistent();
                let steps = link.run(query.sql(), arguments, persistent);
                match until {
                    Some(until) => ending(steps, until),
                    None => steps,
                }
            }
        };
        steps.map(move |step| running.seen(step)).boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<AnyRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let mut steps = self.fetch_many(query);
        async move {
            let mut first = None;
            // To the end: Postgres reports a deferred constraint after the row.
            while let Some(step) = steps.next().await {
                if let Either::Right(row) = step?
                    && first.is_none()
                {
                    first = Some(row);
                }
            }
            Ok(first)
        }
        .boxed()
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [AnyTypeInfo]) -> BoxFuture<'e, sqlx::Result<AnyStatement>>
    where
        'c: 'e,
    {
        match &mut self.link {
            Link::Sqlite(connection) => connection.prepare_with(sql, parameters),
            // A prepared statement has a name, which a pooler does not keep apart.
            Link::Postgres(_) => {
                let unsupported = "a statement cannot be prepared by itself: execute it with sqlx::query".into();
                future::ready(Err(sqlx::Error::AnyDriverError(unsupported))).boxed()
            }
        }
    }
}

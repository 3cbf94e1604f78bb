//! The connections to Postgres: each is lent for one transaction.
//!
//! sqlx's own pool waits for a free connection and for a server that is away with one limit and one error. This one
//! tells them apart, lends a connection with its transaction begun, in one round trip, and takes it back when the
//! server is done with it.
//!
//! Guarantees:
//! - A statement ends with the deadline of its call, on the server as well, and so does a wait for a lock.
//! - Nothing is set for a session: a pooler in transaction mode may stand between.
//! - A connection whose server does not answer is closed, so that it does not occupy its place for ever.
//!
//! See: docs/decisions/0024-connections-to-postgres.md

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqlSafeStr as _, SqlStr};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use mesh_rpc::call::Context;

use super::connection::{Connection, away};
use super::holders::{Holders, Place};
use super::postgres::Prepared;
use super::settings::Limits;
use super::sightings::Sightings;

/// Ends a transaction that is silent for 10 s. The transaction of a frozen or vanished process would otherwise hold its
/// row locks until the kernel closes the connection, which takes hours. A transaction that makes progress is never
/// silent for 10 s, since it waits for nothing else.
const SILENCE: Duration = Duration::from_secs(10);
/// The time that a connection may need to end a transaction, beyond the limit of its statements.
const ROLLBACK: Duration = Duration::from_secs(5);
/// The server ends a statement so much later than its call, which answers DEADLINE_EXCEEDED by then.
const AFTER_DEADLINE: Duration = Duration::from_millis(100);
/// A connection without work for this long is closed.
const IDLE: Duration = Duration::from_secs(600);
/// A connection is closed at this age, so that the servers behind an address share the load after a while.
const AGE: Duration = Duration::from_secs(1800);
/// The pause before another attempt to connect to a server that starts.
const PAUSE: Duration = Duration::from_millis(100);

/// The connections to one database. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: PgConnectOptions,
    limits: Limits,
    permits: Arc<Semaphore>,
    /// The connections without work; the last one was used last.
    idle: Mutex<Vec<Idle>>,
    prepared: Arc<Prepared>,
    sightings: Sightings,
    holders: Holders,
    /// Whether the last attempt to reach the server failed.
    away: AtomicBool,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    opened: Instant,
    since: Instant,
}

/// What a transaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

impl Pool {
    pub(super) fn new(options: PgConnectOptions, limits: Limits, prepared: Prepared, sightings: Sightings) -> Self {
        Self(Arc::new(Shared {
            options,
            permits: Arc::new(Semaphore::new(limits.connections)),
            limits,
            idle: Mutex::default(),
            prepared: Arc::new(prepared),
            sightings,
            holders: Holders::default(),
            away: AtomicBool::new(false),
        }))
    }

    /// Lends a connection in a new transaction.
    ///
    /// # Errors
    ///
    /// [`PoolTimedOut`](sqlx::Error::PoolTimedOut) if no connection is free in time, an error of the driver if the
    /// server cannot be reached, a defect if the task waits for a transaction of its own.
    pub(super) async fn begin(&self, access: Access, place: Place) -> sqlx::Result<Lease> {
        let shared = &*self.0;
        let permit = shared.holders.wait(shared.limits.wait, place, Arc::clone(&shared.permits).acquire_owned()).await;
        let mut permit = permit.map_err(|error| self.explain(error))?.map_err(|_| sqlx::Error::PoolClosed)?;

        // The server has as long as the pool: else a place that is free at the last moment looks like a server that is
        // away.
        let until = Instant::now() + shared.limits.wait;
        let limit = self.statement_limit();
        let begin = AssertSqlSafe(begin(access, limit, shared.limits.lock_timeout)).into_sql_str();
        // The server may have closed a connection without work, which its next statement finds out.
        while let Some(idle) = self.pop() {
            let mut lease = self.lease(idle.connection, idle.opened, permit, limit);
            match lease.begin(begin.clone(), until).await {
                Ok(()) => return Ok(lease),
                Err(sqlx::Error::Io(error)) if error.kind() == std::io::ErrorKind::TimedOut => {
                    return Err(away());
                }
                Err(_) => permit = lease.discard()?,
            }
        }
        let connection = shared.sightings.of(self.connect(until).await)?;
        let mut lease = self.lease(connection, Instant::now(), permit, limit);
        lease.begin(begin, until).await?;
        Ok(lease)
    }

    /// Whether statements are prepared once and kept.
    pub(super) fn keeps_statements(&self) -> bool {
        self.0.prepared.are_kept()
    }

    /// The transactions that are open.
    pub(super) fn holders(&self) -> &Holders {
        &self.0.holders
    }

    /// Notes whether the server answers, by the outcome of a probe.
    pub(super) fn note(&self, answers: bool) {
        self.0.away.store(!answers, Ordering::Relaxed);
    }

    /// Closes the connections. Those that are lent are closed when they return.
    pub(super) async fn close(&self) {
        self.0.permits.close();
        self.renew().await;
    }

    /// Closes the connections without work, so that later transactions get new sessions.
    pub(super) async fn renew(&self) {
        let idle = std::mem::take(&mut *self.idle());
        for idle in idle {
            close(idle.connection).await;
        }
    }

    /// A statement ends with the call that it is part of, and after the configured time at the latest.
    fn statement_limit(&self) -> Duration {
        let limit = self.0.limits.statement_timeout;
        Context::current().remaining().map_or(limit, |remaining| (remaining + AFTER_DEADLINE).min(limit))
    }

    /// No connection is free: because the server does not answer, or because others use them.
    fn explain(&self, error: sqlx::Error) -> sqlx::Error {
        match error {
            sqlx::Error::PoolTimedOut if self.0.away.load(Ordering::Relaxed) => away(),
            error => error,
        }
    }

    /// Opens a connection, and tries again while the server is starting.
    async fn connect(&self, until: Instant) -> sqlx::Result<Connection> {
        loop {
            let error = match timeout_at(until, PgConnection::connect_with(&self.0.options)).await {
                Ok(Ok(connection)) => {
                    self.note(true);
                    let Shared { prepared, sightings, .. } = &*self.0;
                    return Ok(Connection::postgres(connection, Arc::clone(prepared), sightings.clone()));
                }
                Ok(Err(error)) => error,
                Err(_) => away(),
            };
            self.note(false);
            if !is_starting(&error) || Instant::now() + PAUSE >= until {
                return Err(error);
            }
            sleep(PAUSE).await;
        }
    }

    fn lease(
        &self,
        mut connection: Connection,
        opened: Instant,
        permit: OwnedSemaphorePermit,
        limit: Duration,
    ) -> Lease {
        connection.bound(limit + ROLLBACK);
        Lease { pool: self.clone(), lent: Some((connection, permit)), opened, limit, ended: false }
    }

    /// The connection that was used last, unless it is so old that something between may have dropped it.
    fn pop(&self) -> Option<Idle> {
        let (now, mut idle) = (Instant::now(), self.idle());
        idle.retain(|idle| now - idle.since <= IDLE && now - idle.opened <= AGE);
        idle.pop()
    }

    fn put(&self, connection: Connection, opened: Instant) {
        let now = Instant::now();
        let mut idle = self.idle();
        let old = idle.iter().take_while(|idle| now - idle.since > IDLE).count();
        let mut closing: Vec<_> = idle.drain(..old).map(|idle| idle.connection).collect();
        if self.0.permits.is_closed() || connection.is_stale() || now - opened > AGE {
            closing.push(connection);
        } else {
            idle.push(Idle { connection, opened, since: now });
        }
        drop(idle);
        for connection in closing {
            spawn(close(connection));
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in a transaction. It returns when this is dropped, after a rollback if it was not committed.
#[derive(Debug)]
pub(super) struct Lease {
    pool: Pool,
    /// `None` after the end.
    lent: Option<(Connection, OwnedSemaphorePermit)>,
    opened: Instant,
    /// The limit of each statement.
    limit: Duration,
    /// Whether the transaction is committed.
    ended: bool,
}

impl Lease {
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(super) fn connection(&self) -> &Connection {
        match &self.lent {
            Some((connection, _)) => connection,
            None => unreachable!("a lease has its connection until it is dropped"),
        }
    }

    pub(super) fn connection_mut(&mut self) -> &mut Connection {
        match &mut self.lent {
            Some((connection, _)) => connection,
            None => unreachable!("a lease has its connection until it is dropped"),
        }
    }

    pub(super) async fn commit(mut self) -> sqlx::Result<()> {
        // Postgres answers the COMMIT of an aborted transaction with a rollback and no error. A statement fails there.
        let commit = if self.connection().has_failed() { "SELECT 1; COMMIT" } else { "COMMIT" };
        let limit = self.limit + ROLLBACK;
        match timeout(limit, self.connection_mut().control(commit)).await {
            Ok(committed) => committed?,
            Err(_) => {
                self.pool.note(false);
                drop(self.lent.take());
                return Err(away());
            }
        }
        self.ended = true;
        Ok(())
    }

    async fn begin(&mut self, begin: SqlStr, until: Instant) -> sqlx::Result<()> {
        match timeout_at(until, self.connection_mut().begin(begin)).await {
            Ok(begun) => begun,
            Err(_) => {
                self.pool.note(false);
                Err(away())
            }
        }
    }

    /// Closes the connection, and keeps its place.
    fn discard(mut self) -> sqlx::Result<OwnedSemaphorePermit> {
        self.lent.take().map(|(_, permit)| permit).ok_or(sqlx::Error::PoolClosed)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some((mut connection, permit)) = self.lent.take() else { return };
        connection.hold(None);
        let (pool, opened) = (self.pool.clone(), self.opened);
        if self.ended {
            return pool.put(connection, opened);
        }
        // The server may still execute the statement of a caller that is gone, until the limit of the statement.
        let limit = self.limit + ROLLBACK;
        spawn(async move {
            match timeout(limit, connection.control("ROLLBACK")).await {
                Ok(Ok(())) => pool.put(connection, opened),
                Ok(Err(_)) => drop(connection),
                Err(_) => pool.note(false),
            }
            drop(permit);
        });
    }
}

/// Without a runtime the connection is closed, which is what the end of a process needs.
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(task);
    }
}

async fn close(connection: Connection) {
    // The server may be away.
    let _ = timeout(ROLLBACK, connection.close()).await;
}

/// The statements that begin a transaction, in one round trip. The settings end with it, so that a pooler can lend the
/// session to somebody else.
fn begin(access: Access, statement: Duration, lock: Duration) -> String {
    let access = if access == Access::Read { " READ ONLY" } else { "" };
    let (silence, statement, lock) = (millis(SILENCE), millis(statement), millis(lock.min(statement)));
    format!(
        "BEGIN{access}; SET LOCAL idle_in_transaction_session_timeout = {silence}; \
         SET LOCAL lock_timeout = {lock}; SET LOCAL statement_timeout = {statement}"
    )
}

/// Whole milliseconds, 1 at least: for Postgres, 0 is no limit.
fn millis(limit: Duration) -> u128 {
    limit.as_millis().max(1)
}

/// Whether an attempt to connect may succeed in a moment: nothing listens, or the server starts or stops.
fn is_starting(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code == "57P03"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::Location;

    #[tokio::test(start_paused = true)]
    async fn server_has_its_whole_time_after_a_wait_for_a_free_connection() {
        // It accepts connections and says nothing.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("postgres://me@127.0.0.1:{}/one?sslmode=disable", silent.local_addr().unwrap().port());
        let limits = Limits { connections: 1, ..Limits::default() };
        let pool = Pool::new(url.parse().unwrap(), limits, Prepared::new(true), Sightings::default());
        let started = Instant::now();
        let waited = limits.wait - Duration::from_millis(100);
        let only = Arc::clone(&pool.0.permits).acquire_owned().await.unwrap();
        let released = tokio::spawn(async move {
            sleep(waited).await;
            drop(only);
        });
        let begun = pool.begin(Access::Read, Location::caller()).await;
        assert!(matches!(begun.map(drop), Err(sqlx::Error::Io(_))), "the server is away");
        assert!(started.elapsed() >= waited + limits.wait, "after {:?}", started.elapsed());
        released.await.unwrap();
    }
}

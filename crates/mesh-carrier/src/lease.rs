//! The lease of the one relay of a service, in the database of the service.
//!
//! It keeps two relays from doing the same work twice. What keeps them from publishing an event twice is the broker,
//! see [`Carrier`](super::carrier::Carrier).

use std::time::Duration;

use mesh_store::dialect::LEASE;
use mesh_store::{Error, Migration, Store};
use sqlx::AssertSqlSafe;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// The table of the lease: one row, once a relay has run on Postgres.
pub const RELAY: Migration = Migration::new(
    12,
    "relay",
    "CREATE TABLE mesh_relay (
        id BIGINT NOT NULL PRIMARY KEY,
        holder TEXT NOT NULL,
        lease_until BIGINT NOT NULL
    );",
);

/// The interval at which a holder renews its lease.
const KEEP: Duration = Duration::from_secs(2);

/// A lease, held or not. An embedded database has one process, which always holds it.
pub(super) struct Lease {
    store: Store,
    holder: String,
}

impl Lease {
    pub(super) fn new(store: Store) -> Self {
        // The nonce distinguishes this run of the process from earlier ones.
        Self { store, holder: Uuid::new_v4().to_string() }
    }

    /// Takes the lease; false if another process holds it.
    pub(super) async fn take(&self) -> Result<bool, Error> {
        let dialect = self.store.dialect();
        if dialect.is_alone() {
            return Ok(true);
        }
        // A read comes first: a process without the lease asks each second.
        let read = format!("SELECT 1 FROM mesh_relay WHERE id = 1 AND {}", dialect.lease_is_held("lease_until"));
        if sqlx::query(AssertSqlSafe(read)).fetch_optional(self.store.reader()).await?.is_some() {
            return Ok(false);
        }
        let take = format!(
            "INSERT INTO mesh_relay (id, holder, lease_until) VALUES (1, $1, {})
            ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until
            WHERE NOT ({})",
            dialect.lease_end(),
            dialect.lease_is_held("mesh_relay.lease_until")
        );
        self.execute(take).await
    }

    /// Keeps the lease. Returns when it is lost.
    pub(super) async fn keep(&self) {
        let dialect = self.store.dialect();
        if dialect.is_alone() {
            return std::future::pending().await;
        }
        let keep = format!("UPDATE mesh_relay SET lease_until = {} WHERE id = 1 AND holder = $1", dialect.lease_end());
        let mut kept = Instant::now();
        while kept.elapsed() < LEASE {
            sleep(KEEP).await;
            match self.execute(keep.clone()).await {
                Ok(true) => kept = Instant::now(),
                Ok(false) => return,
                // The database is away: the lease runs out, or the next round finds out.
                Err(_) => {}
            }
        }
    }

    /// Ends the lease in order, so that another process need not wait for its end.
    pub(super) async fn release(&self) -> Result<(), Error> {
        if !self.store.dialect().is_alone() {
            self.execute("UPDATE mesh_relay SET lease_until = 0 WHERE id = 1 AND holder = $1".to_owned()).await?;
        }
        Ok(())
    }

    async fn execute(&self, statement: String) -> Result<bool, Error> {
        let mut tx = self.store.begin().await?;
        let changed = sqlx::query(AssertSqlSafe(statement)).bind(&self.holder).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(changed.rows_affected() == 1)
    }
}

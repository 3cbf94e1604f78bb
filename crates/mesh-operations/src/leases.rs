//! Leases: the operations that a worker may claim, and the time for which it holds them.

use std::time::Duration;

use mesh_store::{Error, Store, Transaction};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::clock;
use super::row::Row;
use super::storage::{COLUMNS, read};

/// The length of a lease.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// Finds and locks the oldest operations of a kind that can be claimed: those whose lease has expired, then pending
/// ones.
pub(super) async fn claimable(tx: &mut Transaction, kind: &str, now: i64, limit: usize) -> Result<Vec<Row>, Error> {
    let mut found = Vec::new();
    // Expired leases come first: behind a queue that is never empty they would wait for ever.
    for wanted in ["state = 2 AND lease_until <= $1", "state = 1 AND run_at <= $1"] {
        let find = format!(
            "SELECT {COLUMNS} FROM operations WHERE {wanted} AND kind = $2 ORDER BY run_at LIMIT $3{}",
            tx.dialect().lock_free_rows()
        );
        let left = i64::try_from(limit - found.len()).unwrap_or(i64::MAX);
        let find = sqlx::query(AssertSqlSafe(find)).bind(now).bind(kind).bind(left);
        found.extend(find.try_map(read).fetch_all(&mut **tx).await?);
        if found.len() >= limit {
            break;
        }
    }
    Ok(found)
}

/// Whether [`claimable`] would find an operation.
pub(super) async fn is_claimable(store: &Store, kind: &str) -> Result<bool, Error> {
    let now = clock::now(store.reader(), store.dialect()).await?;
    let find = "SELECT 1 FROM operations WHERE state = 2 AND lease_until <= $1 AND kind = $2
        UNION ALL SELECT 1 FROM operations WHERE state = 1 AND run_at <= $1 AND kind = $2 LIMIT 1";
    Ok(sqlx::query(find).bind(now).bind(kind).fetch_optional(store.reader()).await?.is_some())
}

/// Finds and locks operations of any kind that are past their deadline and under no lease.
pub(super) async fn past_deadline(tx: &mut Transaction, now: i64, limit: i64) -> Result<Vec<Row>, Error> {
    let find = format!(
        "SELECT {COLUMNS} FROM operations WHERE state < 3 AND deadline_at <= $1 AND lease_until <= $1 LIMIT $2{}",
        tx.dialect().lock_free_rows()
    );
    Ok(sqlx::query(AssertSqlSafe(find)).bind(now).bind(limit).try_map(read).fetch_all(&mut **tx).await?)
}

/// Ends all leases. For a database that only this process uses.
pub(super) async fn release_all(tx: &mut Transaction) -> Result<(), Error> {
    sqlx::query("UPDATE operations SET lease_until = 0 WHERE state = 2").execute(&mut **tx).await?;
    Ok(())
}

/// Renews a lease; false if it is lost. It writes no feed row, so watchers do not see it.
pub(super) async fn renew(tx: &mut Transaction, id: Uuid, fence: i64, until: i64) -> Result<bool, Error> {
    let renew = "UPDATE operations SET lease_until = $1 WHERE id = $2 AND fence = $3 AND state = 2";
    let renew = sqlx::query(renew).bind(until).bind(id.to_string()).bind(fence);
    Ok(renew.execute(&mut **tx).await?.rows_affected() == 1)
}

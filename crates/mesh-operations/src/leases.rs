//! Leases: the operations that a worker may claim, all but stuck sagas, and the time for which it holds them.

use std::time::Duration;

use mesh_feed::notifier::Key;
use mesh_store::{Error, Store, Transaction};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::clock::{self, micros};
use super::outcome::LONGEST_PAUSE;
use super::records::Records;
use super::row::Row;
use super::storage::{COLUMNS, read};

/// The length of a lease.
pub(super) const LEASE: Duration = Duration::from_secs(30);
/// The difference by which a time may lie ahead of the longest lease or pause.
const SLACK: Duration = Duration::from_secs(5);

/// Finds and locks the oldest operations of a kind that can be claimed: those whose lease has expired, then pending
/// ones.
pub(super) async fn claimable(tx: &mut Transaction, kind: &str, now: i64, limit: usize) -> Result<Vec<Row>, Error> {
    let mut found = Vec::new();
    // Expired leases come first: behind a queue that is never empty they would wait for ever.
    for wanted in ["state = 2 AND lease_until <= $1", "state = 1 AND run_at <= $1 AND phase < 5"] {
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
        UNION ALL SELECT 1 FROM operations WHERE state = 1 AND run_at <= $1 AND kind = $2 AND phase < 5 LIMIT 1";
    Ok(sqlx::query(find).bind(now).bind(kind).fetch_optional(store.reader()).await?.is_some())
}

/// Mends the times of operations of a kind that lie further ahead than this version sets them: they were written before
/// the clock went back. A new operation is due at once, and so is a retry; a lease ends within its length; the deadline
/// is as far ahead as it was at the start. Otherwise they would wait for as long as the clock went back.
pub(super) async fn mend_times(records: &Records, kind: &str) -> Result<(), Error> {
    let now = clock::now(records.store.reader(), records.store.dialect()).await?;
    // Starts that commit after the look at the clock are a little ahead of it.
    let soon = micros(SLACK);
    let due = &format!("state = 1 AND kind = $2 AND run_at > $1 + {soon} AND (attempt = 0 OR run_at > $3)");
    let held = "state = 2 AND kind = $2 AND lease_until > $1 AND lease_until > $3";
    let mended = mend(records, kind, now, "run_at = $1", due, now + micros(LONGEST_PAUSE + SLACK)).await?
        + mend(records, kind, now, "lease_until = $3", held, now + micros(LEASE + SLACK)).await?;
    if mended > 0 {
        tracing::warn!(kind, count = mended, "the clock went back: operations that would be due later are due now");
        records.notifier.notify(&Key::Work(records.service, kind.to_owned()));
    }
    Ok(())
}

/// Mends the operations that fulfil `ahead`, and returns their number. `$1` is the time, `$2` the kind, `$3` the latest
/// time that this version sets.
async fn mend(
    Records { store, .. }: &Records,
    kind: &str,
    now: i64,
    set: &str,
    ahead: &str,
    latest: i64,
) -> Result<u64, Error> {
    // A write takes the one writer of an embedded database, so a read comes first.
    let find = format!("SELECT 1 FROM operations WHERE {ahead} LIMIT 1");
    let find = sqlx::query(AssertSqlSafe(find)).bind(now).bind(kind).bind(latest);
    if find.fetch_optional(store.reader()).await?.is_none() {
        return Ok(0);
    }
    let mend = format!(
        "UPDATE operations SET {set},
            deadline_at = CASE WHEN created > $1 THEN deadline_at - created + $1 ELSE deadline_at END,
            created = CASE WHEN created > $1 THEN $1 ELSE created END,
            phase_since = CASE WHEN phase_since > $1 THEN $1 ELSE phase_since END
        WHERE {ahead}"
    );
    let mut tx = store.begin().await?;
    let mend = sqlx::query(AssertSqlSafe(mend)).bind(now).bind(kind).bind(latest);
    let mended = mend.execute(&mut *tx).await?.rows_affected();
    tx.commit().await?;
    Ok(mended)
}

/// The operations that are past their deadline at `$1` and under no lease; one that ends after `$2` was written before
/// the clock went back. The deadline of a saga does not count once it cannot be undone, or is being undone.
const PAST_DEADLINE: &str = "state < 3 AND deadline_at <= $1 AND (lease_until <= $1 OR lease_until > $2) AND phase < 2";

/// Finds and locks operations of any kind that are past their deadline and under no lease.
pub(super) async fn past_deadline(tx: &mut Transaction, now: i64, limit: i64) -> Result<Vec<Row>, Error> {
    let lock = tx.dialect().lock_free_rows();
    let find = format!("SELECT {COLUMNS} FROM operations WHERE {PAST_DEADLINE} LIMIT $3{lock}");
    let find = sqlx::query(AssertSqlSafe(find)).bind(now).bind(now + micros(LEASE + SLACK)).bind(limit);
    Ok(find.try_map(read).fetch_all(&mut **tx).await?)
}

/// The number of sagas of a kind that are stuck.
pub(super) async fn stuck(store: &Store, kind: &str) -> Result<i64, Error> {
    let count = sqlx::query("SELECT count(*) FROM operations WHERE phase > 4 AND kind = $1").bind(kind);
    Ok(count.try_map(|row: AnyRow| row.try_get(0)).fetch_one(store.reader()).await?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_store::{Database, REQUESTS, open};

    #[tokio::test]
    async fn past_deadline_reads_its_index_only() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("work.db"));
        let schema = [&[REQUESTS], &crate::SCHEMA[..]].concat();
        let store = open("work", &database, &schema, &[]).await.unwrap();
        let plan = format!("EXPLAIN QUERY PLAN SELECT id FROM operations WHERE {PAST_DEADLINE} LIMIT $3");
        let plan = sqlx::query(AssertSqlSafe(plan)).bind(1_i64).bind(2_i64).bind(3_i64);
        let plan: Vec<String> =
            plan.fetch_all(store.reader()).await.unwrap().iter().map(|step| step.get("detail")).collect();
        assert_eq!(plan, ["SEARCH operations USING INDEX operations_deadline (deadline_at<?)"]);
    }
}

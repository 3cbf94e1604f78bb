//! Reads and writes the table of clean-ups, see `clean_up`.

use std::collections::HashSet;
use std::time::Duration;

use mesh_store::rows::Column::Text;
use mesh_store::rows::uuid;
use mesh_store::{BATCH, Error, Store, Transaction};
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::clock::{self, micros};
use super::leases::LEASE;
use super::row::Row;
use super::steps::delete_of;
use super::storage::ids;

/// The longest pause between two runs.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Clean-ups that are due, at `$2`. One that is due later than any pause was written before the clock went back.
const DUE: &str = "kind = $1 AND (due <= $2 OR due > $3)";

/// Writes the clean-ups of operations that end now, in the transaction of their end.
pub(super) async fn insert(tx: &mut Transaction, ended: &[&Row]) -> Result<(), Error> {
    if ended.is_empty() {
        return Ok(());
    }
    let sent: Value = ended.iter().map(|row| json!({"operation": row.id.to_string(), "kind": row.kind})).collect();
    let ended = ended.iter().map(|row| row.updated).max().unwrap_or_default();
    let insert = format!(
        "INSERT INTO operation_clean_ups (operation, kind, due, tries, ended) SELECT operation, kind, 0, 0, $2
        FROM {} AS new WHERE true ON CONFLICT (operation) DO NOTHING",
        tx.dialect().rows(&[Text("operation"), Text("kind")])
    );
    sqlx::query(AssertSqlSafe(insert)).bind(sent.to_string()).bind(ended).execute(&mut **tx).await?;
    Ok(())
}

/// Whether [`claim`] would find a clean-up.
pub(super) async fn is_due(store: &Store, kind: &str) -> Result<bool, Error> {
    let now = clock::now(store.reader(), store.dialect()).await?;
    let find = format!("SELECT 1 FROM operation_clean_ups WHERE {DUE} LIMIT 1");
    let find = sqlx::query(AssertSqlSafe(find)).bind(kind).bind(now).bind(now + micros(LONGEST_PAUSE));
    Ok(find.fetch_optional(store.reader()).await?.is_some())
}

/// Claims clean-ups for the length of a lease. Returns their operations and the number of the run, from 1.
pub(super) async fn claim(tx: &mut Transaction, kind: &str, now: i64, limit: i64) -> Result<Vec<(Uuid, i64)>, Error> {
    let lock = tx.dialect().lock_free_rows();
    let find = format!("SELECT operation, tries FROM operation_clean_ups WHERE {DUE} ORDER BY due LIMIT $4{lock}");
    let find = sqlx::query(AssertSqlSafe(find)).bind(kind).bind(now).bind(now + micros(LONGEST_PAUSE)).bind(limit);
    let find = find.try_map(|row: AnyRow| Ok((uuid(&row)?, row.try_get::<i64, _>(1)? + 1)));
    let claimed = find.fetch_all(&mut **tx).await?;
    if !claimed.is_empty() {
        let wanted = tx.dialect().rows(&[Text("id")]);
        let hold = format!(
            "UPDATE operation_clean_ups SET due = $2, tries = tries + 1
            WHERE operation IN (SELECT id FROM {wanted} AS wanted)"
        );
        let held: Vec<_> = claimed.iter().map(|(id, _)| *id).collect();
        sqlx::query(AssertSqlSafe(hold)).bind(ids(&held)).bind(now + micros(LEASE)).execute(&mut **tx).await?;
    }
    Ok(claimed)
}

/// Makes a clean-up due at a time; at 0, at once.
pub(super) async fn retry_at(tx: &mut Transaction, id: Uuid, due: i64) -> Result<(), Error> {
    let retry = sqlx::query("UPDATE operation_clean_ups SET due = $1 WHERE operation = $2");
    retry.bind(due).bind(id.to_string()).execute(&mut **tx).await?;
    Ok(())
}

/// Makes all clean-ups due. For a database that only this process uses: those that were claimed are of an earlier run.
pub(super) async fn release_all(tx: &mut Transaction) -> Result<(), Error> {
    sqlx::query("UPDATE operation_clean_ups SET due = 0 WHERE due > 0").execute(&mut **tx).await?;
    Ok(())
}

/// Deletes clean-ups that are done, and what was kept for them. A failed operation keeps its input, for a retry.
pub(super) async fn finish(tx: &mut Transaction, done: &[Uuid]) -> Result<(), Error> {
    // First: it locks the rows, so that a deletion of the operation is either seen below, or sees this.
    delete_of(tx, "operation_clean_ups", done).await?;
    delete_of(tx, "operation_steps", done).await?;
    if !done.is_empty() {
        let wanted = tx.dialect().rows(&[Text("id")]);
        let inputs = format!(
            "DELETE FROM operation_input WHERE operation IN (SELECT id FROM {wanted} AS wanted)
            AND NOT EXISTS (SELECT 1 FROM operations WHERE id = operation AND state = 4)"
        );
        sqlx::query(AssertSqlSafe(inputs)).bind(ids(done)).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Those of some operations whose clean-up is not done. Locks the rows.
pub(super) async fn open_among(tx: &mut Transaction, operations: &[Uuid]) -> Result<HashSet<Uuid>, Error> {
    let dialect = tx.dialect();
    let open = format!(
        "SELECT operation FROM operation_clean_ups WHERE operation IN (SELECT id FROM {} AS wanted)
        ORDER BY operation{}",
        dialect.rows(&[Text("id")]),
        dialect.lock_rows()
    );
    let open = sqlx::query(AssertSqlSafe(open)).bind(ids(operations)).try_map(|row| uuid(&row));
    Ok(open.fetch_all(&mut **tx).await?.into_iter().collect())
}

/// Gives up one batch of the clean-ups of operations that ended before `until`; true if there may be more. No program
/// works on their kind any more, or they never succeeded.
pub(super) async fn give_up(store: &Store, until: i64) -> Result<bool, Error> {
    let mut tx = store.begin().await?;
    let old = sqlx::query("SELECT operation FROM operation_clean_ups WHERE ended < $1 ORDER BY ended LIMIT $2");
    let old = old.bind(until).bind(BATCH).try_map(|row| uuid(&row)).fetch_all(&mut *tx).await?;
    finish(&mut tx, &old).await?;
    tx.commit().await?;
    if !old.is_empty() {
        tracing::warn!(count = old.len(), "gave up the clean-up of operations older than operations.keep");
    }
    Ok(old.len() == BATCH.cast_unsigned() as usize)
}

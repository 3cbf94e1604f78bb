//! The tables as they are read: operations, what they were started with, what their steps left. What changes them is in
//! `changes`.

use std::collections::HashMap;

use mesh_proto::mesh::operations::v1::State;
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyExecutor, AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::Owner;
use super::row::Row;
use crate::store::Column::Text;
use crate::store::{self, Dialect, Error, Store, Transaction};

/// Now, by the clock that all replicas share.
pub(super) async fn now(database: impl AnyExecutor<'_>, dialect: Dialect) -> Result<i64, Error> {
    match dialect.shared_clock() {
        Some(ask) => Ok(sqlx::query(ask).fetch_one(database).await?.try_get(0)?),
        None => Ok(store::now()),
    }
}

/// What [`read`] reads.
pub(super) const COLUMNS: &str =
    "id, owner, kind, state, revision, attempt, fence, worker, lease_until, run_at, deadline_at,
    cancel_requested, progress, result, created, updated";

/// Operations, kept for this transaction; those that are there, in no order.
pub(super) async fn lock(tx: &mut Transaction, dialect: Dialect, wanted: &[Uuid]) -> Result<Vec<Row>, Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    // Always in the same order, so that two transactions do not wait for each other.
    let lock = format!(
        "SELECT {COLUMNS} FROM operations WHERE id IN (SELECT id FROM {} AS wanted) ORDER BY id{}",
        dialect.rows(&[Text("id")]),
        dialect.lock_rows()
    );
    Ok(sqlx::query(AssertSqlSafe(lock)).bind(ids(wanted)).try_map(read).fetch_all(&mut **tx).await?)
}

/// An operation, whoever owns it.
pub(super) async fn peek(database: impl AnyExecutor<'_>, id: Uuid) -> Result<Option<Row>, Error> {
    let peek = format!("SELECT {COLUMNS} FROM operations WHERE id = $1");
    Ok(sqlx::query(AssertSqlSafe(peek)).bind(id.to_string()).try_map(read).fetch_optional(database).await?)
}

/// An operation of `owner`.
pub(super) async fn get(database: impl AnyExecutor<'_>, owner: &Owner, id: Uuid) -> Result<Option<Row>, Error> {
    let get = format!("SELECT {COLUMNS} FROM operations WHERE owner = $1 AND id = $2");
    let get = sqlx::query(AssertSqlSafe(get)).bind(&owner.0).bind(id.to_string());
    Ok(get.try_map(read).fetch_optional(database).await?)
}

/// The operation that a request has started, and the hash of that request.
pub(super) async fn by_request(
    database: impl AnyExecutor<'_>,
    owner: &Owner,
    kind: &str,
    request_id: &str,
) -> Result<Option<(Row, Vec<u8>)>, Error> {
    let find =
        format!("SELECT {COLUMNS}, request_hash FROM operations WHERE owner = $1 AND kind = $2 AND request_id = $3");
    let find = sqlx::query(AssertSqlSafe(find)).bind(&owner.0).bind(kind).bind(request_id);
    let find = find.try_map(|row: AnyRow| Ok((row.try_get("request_hash")?, read(row)?)));
    Ok(find.fetch_optional(database).await?.map(|(hash, row)| (row, hash)))
}

/// The revisions of operations, in one query.
pub(super) async fn revisions(store: &Store, wanted: &[Uuid]) -> Result<Vec<(Uuid, i64)>, Error> {
    let table = store.dialect().rows(&[Text("id")]);
    let revisions = format!("SELECT id, revision FROM operations WHERE id IN (SELECT id FROM {table} AS wanted)");
    let revisions = sqlx::query(AssertSqlSafe(revisions)).bind(ids(wanted));
    Ok(revisions.try_map(|row: AnyRow| Ok((uuid(&row)?, row.try_get(1)?))).fetch_all(store.reader()).await?)
}

/// The oldest operations of a kind that want to be worked on: those whose worker is gone, and those that wait.
pub(super) async fn claimable(
    tx: &mut Transaction,
    dialect: Dialect,
    kind: &str,
    now: i64,
    limit: usize,
) -> Result<Vec<Row>, Error> {
    let mut found = Vec::new();
    // What was begun comes first: behind a queue that never empties it would wait for ever.
    for wanted in ["state = 2 AND lease_until <= $1", "state = 1 AND run_at <= $1"] {
        let find = format!(
            "SELECT {COLUMNS} FROM operations WHERE {wanted} AND kind = $2 ORDER BY run_at LIMIT $3{}",
            dialect.lock_free_rows()
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

/// Whether there is anything that [`claimable`] would find.
pub(super) async fn is_claimable(store: &Store, kind: &str) -> Result<bool, Error> {
    let now = now(store.reader(), store.dialect()).await?;
    let find = "SELECT 1 FROM operations WHERE state = 2 AND lease_until <= $1 AND kind = $2
        UNION ALL SELECT 1 FROM operations WHERE state = 1 AND run_at <= $1 AND kind = $2 LIMIT 1";
    Ok(sqlx::query(find).bind(now).bind(kind).fetch_optional(store.reader()).await?.is_some())
}

/// Operations whose time is over and that nobody holds, of whatever kind.
pub(super) async fn overdue(tx: &mut Transaction, dialect: Dialect, now: i64, limit: i64) -> Result<Vec<Row>, Error> {
    let find = format!(
        "SELECT {COLUMNS} FROM operations WHERE state < 3 AND deadline_at <= $1 AND lease_until <= $1 LIMIT $2{}",
        dialect.lock_free_rows()
    );
    Ok(sqlx::query(AssertSqlSafe(find)).bind(now).bind(limit).try_map(read).fetch_all(&mut **tx).await?)
}

/// Lets go of everything that was being worked on; for a database of which this process is the only user.
pub(super) async fn release_all(tx: &mut Transaction) -> Result<(), Error> {
    sqlx::query("UPDATE operations SET lease_until = 0 WHERE state = 2").execute(&mut **tx).await?;
    Ok(())
}

/// Keeps a lease. No event: who watches does not care.
pub(super) async fn renew(tx: &mut Transaction, id: Uuid, fence: i64, until: i64) -> Result<bool, Error> {
    let renew = "UPDATE operations SET lease_until = $1 WHERE id = $2 AND fence = $3 AND state = 2";
    let renew = sqlx::query(renew).bind(until).bind(id.to_string()).bind(fence);
    Ok(renew.execute(&mut **tx).await?.rows_affected() == 1)
}

/// What operations were started with.
pub(super) async fn inputs(
    tx: &mut Transaction,
    dialect: Dialect,
    wanted: &[Uuid],
) -> Result<HashMap<Uuid, Vec<u8>>, Error> {
    let table = dialect.rows(&[Text("id")]);
    let inputs =
        format!("SELECT operation, input FROM operation_input WHERE operation IN (SELECT id FROM {table} AS wanted)");
    let inputs = sqlx::query(AssertSqlSafe(inputs)).bind(ids(wanted));
    let inputs = inputs.try_map(|row| Ok((uuid(&row)?, row.try_get(1)?))).fetch_all(&mut **tx).await?;
    Ok(inputs.into_iter().collect())
}

/// What an operation was started with, if that is kept.
pub(super) async fn input(database: impl AnyExecutor<'_>, id: Uuid) -> Result<Option<Vec<u8>>, Error> {
    let input = sqlx::query("SELECT input FROM operation_input WHERE operation = $1").bind(id.to_string());
    Ok(input.try_map(|row: AnyRow| row.try_get(0)).fetch_optional(database).await?)
}

/// What a step has left, if it was finished.
pub(super) async fn step(database: impl AnyExecutor<'_>, id: Uuid, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let step = sqlx::query("SELECT result FROM operation_steps WHERE operation = $1 AND name = $2");
    let step = step.bind(id.to_string()).bind(name).try_map(|row: AnyRow| row.try_get(0));
    Ok(step.fetch_optional(database).await?)
}

pub(super) async fn finish_step(tx: &mut Transaction, id: Uuid, name: &str, result: Vec<u8>) -> Result<(), Error> {
    let finish = sqlx::query("INSERT INTO operation_steps (operation, name, result) VALUES ($1, $2, $3)");
    finish.bind(id.to_string()).bind(name).bind(result).execute(&mut **tx).await?;
    Ok(())
}

/// Ids as they travel.
pub(super) fn ids(ids: &[Uuid]) -> String {
    ids.iter().map(|id| json!({"id": id.to_string()})).collect::<Value>().to_string()
}

pub(super) fn read(row: AnyRow) -> sqlx::Result<Row> {
    let state: i64 = row.try_get("state")?;
    let state = i32::try_from(state).ok().and_then(|state| State::try_from(state).ok());
    Ok(Row {
        id: uuid(&row)?,
        owner: Owner(row.try_get("owner")?),
        kind: row.try_get("kind")?,
        state: state.ok_or_else(|| sqlx::Error::Decode("an unknown state".into()))?,
        revision: row.try_get("revision")?,
        attempt: row.try_get("attempt")?,
        fence: row.try_get("fence")?,
        worker: row.try_get("worker")?,
        lease_until: row.try_get("lease_until")?,
        run_at: row.try_get("run_at")?,
        deadline_at: row.try_get("deadline_at")?,
        cancel_requested: row.try_get::<i64, _>("cancel_requested")? != 0,
        progress: row.try_get("progress")?,
        result: row.try_get("result")?,
        created: row.try_get("created")?,
        updated: row.try_get("updated")?,
    })
}

/// The UUID in a row's first column.
pub(super) fn uuid(row: &AnyRow) -> sqlx::Result<Uuid> {
    let text: String = row.try_get(0)?;
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

//! The tables: operations, what they were started with, what their steps left. SQL, and nothing but SQL.

use contracts::mesh::operations::v1::State;
use sqlx::any::AnyRow;
use sqlx::{AnyExecutor, AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::Owner;
use super::feed::{self, Change};
use super::row::Row;
use crate::store::{Dialect, Error, Store, Transaction};

/// What it takes to store a new operation.
pub(super) struct New<'a> {
    pub(super) owner: &'a Owner,
    pub(super) kind: &'static str,
    pub(super) request_id: &'a str,
    pub(super) request_hash: &'a [u8],
    pub(super) input: Vec<u8>,
    pub(super) deadline_at: i64,
}

/// Now, by the clock of the database, which all replicas share.
pub(super) async fn now(tx: &mut Transaction, dialect: Dialect) -> Result<i64, Error> {
    Ok(sqlx::query(dialect.now()).fetch_one(&mut **tx).await?.try_get(0)?)
}

/// Stores a new operation; `None` if its request has started one already.
pub(super) async fn insert(tx: &mut Transaction, service: &str, new: New<'_>, now: i64) -> Result<Option<Row>, Error> {
    let row = Row {
        id: Uuid::now_v7(),
        owner: new.owner.clone(),
        kind: new.kind.to_owned(),
        state: State::Pending,
        revision: 1,
        attempt: 0,
        fence: 0,
        worker: String::new(),
        lease_until: 0,
        run_at: now,
        deadline_at: new.deadline_at,
        cancel_requested: false,
        progress: Vec::new(),
        result: Vec::new(),
        created: now,
        updated: now,
    };
    let insert = "INSERT INTO operations (id, owner, kind, request_id, request_hash, state, revision, attempt, fence,
            worker, lease_until, run_at, deadline_at, cancel_requested, progress, result, created, updated, finished)
        VALUES ($1, $2, $3, $4, $5, 1, 1, 0, 0, '', 0, $6, $7, 0, $8, $8, $6, $6, 0)
        ON CONFLICT (owner, kind, request_id) DO NOTHING";
    let insert = sqlx::query(insert).bind(row.id.to_string()).bind(&row.owner.0).bind(&row.kind);
    let insert = insert.bind(new.request_id).bind(new.request_hash).bind(now).bind(row.deadline_at);
    if insert.bind(Vec::new()).execute(&mut **tx).await?.rows_affected() == 0 {
        return Ok(None);
    }
    let input = sqlx::query("INSERT INTO operation_input (operation, input) VALUES ($1, $2)");
    input.bind(row.id.to_string()).bind(new.input).execute(&mut **tx).await?;
    tx.tell(feed::Entry::new(service, &row, Change::State));
    Ok(Some(row))
}

/// Stores what has changed in a row that this transaction has [locked](lock), and lets the feed tell it.
pub(super) async fn save(
    tx: &mut Transaction,
    service: &str,
    row: &mut Row,
    change: Change,
    now: i64,
) -> Result<(), Error> {
    row.revision += 1;
    row.updated = now;
    let finished = if row.is_done() { now } else { 0 };
    let update = "UPDATE operations SET state = $1, revision = $2, attempt = $3, fence = $4, worker = $5,
            lease_until = $6, run_at = $7, cancel_requested = $8, progress = $9, result = $10, updated = $11,
            finished = $12
        WHERE id = $13 AND revision = $2 - 1";
    let update = sqlx::query(update).bind(row.state as i64).bind(row.revision).bind(row.attempt).bind(row.fence);
    let update = update.bind(&row.worker).bind(row.lease_until).bind(row.run_at).bind(i64::from(row.cancel_requested));
    let update = update.bind(&row.progress).bind(&row.result).bind(row.updated).bind(finished);
    if update.bind(row.id.to_string()).execute(&mut **tx).await?.rows_affected() != 1 {
        return Err(Error::LeaseLost);
    }
    if row.is_done() {
        for table in ["operation_input", "operation_steps"] {
            let delete = AssertSqlSafe(format!("DELETE FROM {table} WHERE operation = $1"));
            sqlx::query(delete).bind(row.id.to_string()).execute(&mut **tx).await?;
        }
    }
    tx.tell(feed::Entry::new(service, row, change));
    Ok(())
}

/// What [`read`] reads.
pub(super) const COLUMNS: &str =
    "id, owner, kind, state, revision, attempt, fence, worker, lease_until, run_at, deadline_at,
    cancel_requested, progress, result, created, updated";

/// An operation, kept for this transaction.
pub(super) async fn lock(tx: &mut Transaction, dialect: Dialect, id: Uuid) -> Result<Option<Row>, Error> {
    let lock = format!("SELECT {COLUMNS} FROM operations WHERE id = $1{}", dialect.lock_rows());
    Ok(sqlx::query(AssertSqlSafe(lock)).bind(id.to_string()).try_map(read).fetch_optional(&mut **tx).await?)
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

/// Forgets an operation that is done; false if it is not there any more. What the feed has told of it stays: its owner's
/// positions have no holes.
pub(super) async fn delete(tx: &mut Transaction, id: Uuid) -> Result<bool, Error> {
    let delete = sqlx::query("DELETE FROM operations WHERE id = $1 AND state >= 3").bind(id.to_string());
    Ok(delete.execute(&mut **tx).await?.rows_affected() == 1)
}

/// Now, outside of a transaction.
pub(super) async fn read_now(store: &Store) -> Result<i64, Error> {
    Ok(sqlx::query(store.dialect().now()).fetch_one(store.reader()).await?.try_get(0)?)
}

/// What changed at or after a time, with its revision.
pub(super) async fn changed_since(store: &Store, since: i64) -> Result<Vec<(Uuid, i64)>, Error> {
    let changed = sqlx::query("SELECT id, revision FROM operations WHERE updated >= $1").bind(since);
    Ok(changed.try_map(|row: AnyRow| Ok((uuid(&row)?, row.try_get(1)?))).fetch_all(store.reader()).await?)
}

/// The oldest operation of a kind that wants to be worked on: one that waits, or one whose worker is gone.
pub(super) async fn claimable(
    tx: &mut Transaction,
    dialect: Dialect,
    kind: &str,
    now: i64,
) -> Result<Option<Row>, Error> {
    // What was begun comes first: behind a queue that never empties it would wait for ever.
    for wanted in ["state = 2 AND lease_until <= $1", "state = 1 AND run_at <= $1"] {
        let find = format!(
            "SELECT {COLUMNS} FROM operations WHERE {wanted} AND kind = $2 ORDER BY run_at LIMIT 1{}",
            dialect.lock_free_rows()
        );
        let find = sqlx::query(AssertSqlSafe(find)).bind(now).bind(kind);
        if let Some(row) = find.try_map(read).fetch_optional(&mut **tx).await? {
            return Ok(Some(row));
        }
    }
    Ok(None)
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

/// What an operation was started with.
pub(super) async fn input(tx: &mut Transaction, id: Uuid) -> Result<Vec<u8>, Error> {
    let input = sqlx::query("SELECT input FROM operation_input WHERE operation = $1").bind(id.to_string());
    Ok(input.fetch_one(&mut **tx).await?.try_get(0)?)
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

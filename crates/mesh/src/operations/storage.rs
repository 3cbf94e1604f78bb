//! The tables: operations, what they were started with, what their steps left. SQL, and nothing but SQL.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use contracts::mesh::operations::v1::State;
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyExecutor, AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::Owner;
use super::feed::{self, Change};
use super::row::Row;
use crate::store::Column::{Bytes, Number, Text};
use crate::store::{Dialect, Error, Store, Transaction, hex};

/// What it takes to store a new operation.
pub(super) struct New {
    pub(super) owner: Owner,
    pub(super) kind: &'static str,
    pub(super) request_id: String,
    pub(super) request_hash: Vec<u8>,
    pub(super) input: Vec<u8>,
    pub(super) deadline: Duration,
}

/// What is longer goes to the database by itself: as digits it would take twice its room several times.
const LARGE_INPUT: usize = 4096;

/// Now, by the clock of the database, which all replicas share.
pub(super) async fn now(tx: &mut Transaction, dialect: Dialect) -> Result<i64, Error> {
    Ok(sqlx::query(dialect.now()).fetch_one(&mut **tx).await?.try_get(0)?)
}

/// Stores new operations; `None` for one whose request has started one already.
pub(super) async fn insert(
    tx: &mut Transaction,
    dialect: Dialect,
    service: &str,
    news: Vec<New>,
    now: i64,
) -> Result<Vec<Option<Row>>, Error> {
    if news.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<_> = news.iter().map(|new| begun(new, now)).collect();
    let sent = rows.iter().zip(&news).map(|(row, new)| {
        json!({"id": row.id.to_string(), "owner": row.owner.0, "kind": row.kind, "request_id": new.request_id,
            "request_hash": hex(&new.request_hash), "deadline_at": row.deadline_at})
    });
    let table = dialect.rows(&[
        Text("id"),
        Text("owner"),
        Text("kind"),
        Text("request_id"),
        Bytes("request_hash"),
        Number("deadline_at"),
    ]);
    let insert = format!(
        "INSERT INTO operations (id, owner, kind, request_id, request_hash, state, revision, attempt, fence,
            worker, lease_until, run_at, deadline_at, cancel_requested, progress, result, created, updated, finished)
        SELECT id, owner, kind, request_id, request_hash, 1, 1, 0, 0, '', 0, $2, deadline_at, 0, $3, $3, $2, $2, 0
        FROM {table} AS new WHERE true ON CONFLICT (owner, kind, request_id) DO NOTHING RETURNING id"
    );
    let insert = sqlx::query(AssertSqlSafe(insert)).bind(sent.collect::<Value>().to_string()).bind(now);
    let inserted = insert.bind(Vec::new()).try_map(|row| uuid(&row)).fetch_all(&mut **tx).await?;
    let inserted: HashSet<_> = inserted.into_iter().collect();

    let inputs = rows.iter().zip(news).filter(|(row, _)| inserted.contains(&row.id));
    keep_inputs(tx, dialect, inputs.map(|(row, new)| (row.id, new.input)).collect()).await?;
    let kept = rows.into_iter().map(|row| inserted.contains(&row.id).then_some(row)).collect::<Vec<_>>();
    for row in kept.iter().flatten() {
        tx.tell(feed::Entry::new(service, row, Change::State));
    }
    Ok(kept)
}

fn begun(new: &New, now: i64) -> Row {
    Row {
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
        deadline_at: now + super::micros(new.deadline),
        cancel_requested: false,
        progress: Vec::new(),
        result: Vec::new(),
        created: now,
        updated: now,
    }
}

async fn keep_inputs(tx: &mut Transaction, dialect: Dialect, inputs: Vec<(Uuid, Vec<u8>)>) -> Result<(), Error> {
    let (large, small): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|(_, input)| input.len() > LARGE_INPUT);
    for (id, input) in large {
        let keep = sqlx::query("INSERT INTO operation_input (operation, input) VALUES ($1, $2)");
        keep.bind(id.to_string()).bind(input).execute(&mut **tx).await?;
    }
    if !small.is_empty() {
        let sent: Value =
            small.iter().map(|(id, input)| json!({"operation": id.to_string(), "input": hex(input)})).collect();
        let table = dialect.rows(&[Text("operation"), Bytes("input")]);
        let keep =
            format!("INSERT INTO operation_input (operation, input) SELECT operation, input FROM {table} AS new");
        sqlx::query(AssertSqlSafe(keep)).bind(sent.to_string()).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Rows that have changed since this transaction has [locked](lock) them, and what there is to tell of that.
pub(super) struct Changed {
    service: &'static str,
    /// By id, each as it is now and with the revision it had.
    rows: BTreeMap<Uuid, (Row, i64)>,
    told: Vec<feed::Entry>,
}

impl Changed {
    pub(super) fn new(service: &'static str) -> Self {
        Self { service, rows: BTreeMap::new(), told: Vec::new() }
    }

    /// All of them.
    pub(super) fn rows(&self) -> Vec<&Row> {
        self.rows.values().map(|(row, _)| row).collect()
    }

    /// One of them: `row` as it is now, but for its revision, which this raises.
    pub(super) fn note(&mut self, row: &mut Row, change: Change, now: i64) {
        let was = row.revision;
        row.revision += 1;
        row.updated = now;
        self.told.push(feed::Entry::new(self.service, row, change));
        let was = self.rows.get(&row.id).map_or(was, |(_, was)| *was);
        self.rows.insert(row.id, (row.clone(), was));
    }
}

/// Stores what has changed, and lets the feed tell it.
pub(super) async fn save(tx: &mut Transaction, dialect: Dialect, changed: Changed) -> Result<(), Error> {
    if changed.rows.is_empty() {
        return Ok(());
    }
    let sent = changed.rows.values().map(|(row, was)| {
        json!({"id": row.id.to_string(), "was": was, "state": row.state as i64, "revision": row.revision, "attempt": row.attempt,
            "fence": row.fence, "worker": row.worker, "lease_until": row.lease_until, "run_at": row.run_at,
            "cancel_requested": i64::from(row.cancel_requested), "progress": hex(&row.progress),
            "result": hex(&row.result), "updated": row.updated, "finished": if row.is_done() { row.updated } else { 0 }})
    });
    let table = dialect.rows(&[
        Text("id"),
        Number("was"),
        Number("state"),
        Number("revision"),
        Number("attempt"),
        Number("fence"),
        Text("worker"),
        Number("lease_until"),
        Number("run_at"),
        Number("cancel_requested"),
        Bytes("progress"),
        Bytes("result"),
        Number("updated"),
        Number("finished"),
    ]);
    let update = format!(
        "UPDATE operations SET state = new.state, revision = new.revision, attempt = new.attempt, fence = new.fence,
            worker = new.worker, lease_until = new.lease_until, run_at = new.run_at,
            cancel_requested = new.cancel_requested, progress = new.progress, result = new.result,
            updated = new.updated, finished = new.finished
        FROM {table} AS new WHERE operations.id = new.id AND operations.revision = new.was"
    );
    let update = sqlx::query(AssertSqlSafe(update)).bind(sent.collect::<Value>().to_string());
    if update.execute(&mut **tx).await?.rows_affected() != changed.rows.len() as u64 {
        return Err(Error::LeaseLost);
    }
    let done = changed.rows.values().filter(|(row, _)| row.is_done()).map(|(row, _)| row.id).collect::<Vec<_>>();
    forget_work(tx, dialect, &done).await?;
    changed.told.into_iter().for_each(|entry| tx.tell(entry));
    Ok(())
}

/// What operations were started with and what their steps left is of no use once they are done.
async fn forget_work(tx: &mut Transaction, dialect: Dialect, done: &[Uuid]) -> Result<(), Error> {
    if done.is_empty() {
        return Ok(());
    }
    let (sent, table) = (ids(done), dialect.rows(&[Text("id")]));
    for forgotten in ["operation_input", "operation_steps"] {
        let delete = format!("DELETE FROM {forgotten} WHERE operation IN (SELECT id FROM {table} AS done)");
        sqlx::query(AssertSqlSafe(delete)).bind(&sent).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Ids as they travel.
fn ids(ids: &[Uuid]) -> String {
    ids.iter().map(|id| json!({"id": id.to_string()})).collect::<Value>().to_string()
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

/// Forgets an operation that is done; false if it is not there any more. What the feed has told of it stays: its
/// owner's positions have no holes.
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
    let now = read_now(store).await?;
    let find = "SELECT 1 FROM operations WHERE state = 2 AND lease_until <= $1 AND kind = $2
        UNION ALL SELECT 1 FROM operations WHERE state = 1 AND run_at <= $1 AND kind = $2 LIMIT 1";
    Ok(sqlx::query(find).bind(now).bind(kind).fetch_optional(store.reader()).await?.is_some())
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

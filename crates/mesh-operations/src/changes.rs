//! Writes changes of operations, any number of them with one statement a table, and their feed rows.
//!
//! Guarantees:
//! - The row of an operation, its revision and its feed row are in one transaction (INV-12).

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use mesh_feed::log::{self, Entry};
use mesh_proto::mesh::operations::v1::{Change, Phase, State};
use mesh_rpc::call::{Caller, Cause, Trace};
use mesh_store::rows::Column::{Bytes, Number, Text};
use mesh_store::rows::{hex, uuid};
use mesh_store::{Error, Transaction};
use prost::Message as _;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::clean_ups;
use super::clock::micros;
use super::ids::Ids;
use super::row::Row;
use super::saga_steps;
use super::steps::delete_of;
use super::storage::STUCK;

/// A new operation, before it is stored.
pub(super) struct New {
    pub(super) caller: Caller,
    pub(super) kind: String,
    pub(super) request_id: Uuid,
    pub(super) request_hash: Vec<u8>,
    pub(super) input: Vec<u8>,
    pub(super) deadline: Duration,
    /// [`Phase::Forward`] for a saga; unspecified for other work.
    pub(super) phase: Phase,
    /// The trace of the call that starts it.
    pub(super) trace: Trace,
    /// The cause of that call; `None` if it begins something.
    pub(super) cause: Option<Cause>,
}

/// The size in bytes above which an input is bound by itself. As hexadecimal digits it would take twice its size.
const LARGE_INPUT: usize = 4096;

/// Stores new operations; `None` for each whose request has already started one.
pub(super) async fn insert(
    tx: &mut Transaction,
    service: &str,
    news: Vec<New>,
    now: i64,
) -> Result<Vec<Option<Row>>, Error> {
    if news.is_empty() {
        return Ok(Vec::new());
    }
    let dialect = tx.dialect();
    // The statement orders the rows by request, so that two transactions cannot deadlock.
    let mut ids = Ids::after_those_in(tx).await?;
    let rows: Vec<_> = news.iter().map(|new| pending_row(ids.next(), new, now)).collect();
    let sent = rows.iter().zip(&news).map(|(row, new)| {
        json!({"id": row.id.to_string(), "owner": row.caller.name(), "kind": row.kind, "request_id": new.request_id.to_string(),
            "request_hash": hex(&new.request_hash), "deadline_at": row.deadline_at, "trace": new.trace.to_string(),
            "cause": new.cause.map(|cause| cause.to_string()).unwrap_or_default(), "phase": new.phase as i64})
    });
    let table = dialect.rows(&[
        Text("id"),
        Text("owner"),
        Text("kind"),
        Text("request_id"),
        Bytes("request_hash"),
        Number("deadline_at"),
        Text("trace"),
        Text("cause"),
        Number("phase"),
    ]);
    let insert = format!(
        "INSERT INTO operations (id, owner, kind, request_id, request_hash, state, revision, attempt, fence,
            worker, lease_until, run_at, deadline_at, cancel_requested, progress, result, created, updated, finished, trace,
            cause, phase, phase_since)
        SELECT id, owner, kind, request_id, request_hash, 1, 1, 0, 0, '', 0, $2, deadline_at, 0, $3, $3, $2, $2, 0, trace,
            cause, phase, $2
        FROM {table} AS new WHERE true ORDER BY owner, kind, request_id
        ON CONFLICT (owner, kind, request_id) DO NOTHING RETURNING id"
    );
    let insert = sqlx::query(AssertSqlSafe(insert)).bind(sent.collect::<Value>().to_string()).bind(now);
    let inserted = insert.bind(Vec::new()).try_map(|row| uuid(&row)).fetch_all(&mut **tx).await?;
    let inserted: HashSet<_> = inserted.into_iter().collect();

    let inputs = rows.iter().zip(news).filter(|(row, _)| inserted.contains(&row.id));
    keep_inputs(tx, inputs.map(|(row, new)| (row.id, new.input)).collect()).await?;
    let kept = rows.into_iter().map(|row| inserted.contains(&row.id).then_some(row)).collect::<Vec<_>>();
    for row in kept.iter().flatten() {
        log::append(tx, entry(service, row, Change::State));
    }
    Ok(kept)
}

fn pending_row(id: Uuid, new: &New, now: i64) -> Row {
    Row {
        id,
        caller: new.caller.clone(),
        kind: new.kind.clone(),
        state: State::Pending,
        revision: 1,
        attempt: 0,
        fence: 0,
        worker: String::new(),
        lease_until: 0,
        run_at: now,
        deadline_at: now + micros(new.deadline),
        trace: Some(new.trace),
        cause: new.cause,
        cancel_requested: false,
        progress: Vec::new(),
        result: Vec::new(),
        created: now,
        updated: now,
        phase: new.phase,
        stuck: false,
        phase_since: now,
    }
}

async fn keep_inputs(tx: &mut Transaction, inputs: Vec<(Uuid, Vec<u8>)>) -> Result<(), Error> {
    let (large, small): (Vec<_>, Vec<_>) = inputs.into_iter().partition(|(_, input)| input.len() > LARGE_INPUT);
    for (id, input) in large {
        let keep = sqlx::query("INSERT INTO operation_input (operation, input) VALUES ($1, $2)");
        keep.bind(id.to_string()).bind(input).execute(&mut **tx).await?;
    }
    if !small.is_empty() {
        let sent: Value =
            small.iter().map(|(id, input)| json!({"operation": id.to_string(), "input": hex(input)})).collect();
        let table = tx.dialect().rows(&[Text("operation"), Bytes("input")]);
        let keep =
            format!("INSERT INTO operation_input (operation, input) SELECT operation, input FROM {table} AS new");
        sqlx::query(AssertSqlSafe(keep)).bind(sent.to_string()).execute(&mut **tx).await?;
    }
    Ok(())
}

/// The feed row of a change.
fn entry(service: &str, row: &Row, change: Change) -> Entry {
    Entry {
        caller: row.caller.clone(),
        subject: row.id,
        revision: row.revision,
        change: change.into(),
        kind: row.kind.clone(),
        time: row.updated,
        payload: row.to_operation(service).encode_to_vec(),
    }
}

/// Rows that have changed since this transaction [locked](super::storage::lock) them, and their feed rows.
pub(super) struct Changed {
    service: &'static str,
    /// By id: the row after its changes, and its revision in the database.
    rows: BTreeMap<Uuid, (Row, i64)>,
    entries: Vec<Entry>,
}

impl Changed {
    pub(super) fn new(service: &'static str) -> Self {
        Self { service, rows: BTreeMap::new(), entries: Vec::new() }
    }

    /// The changed rows.
    pub(super) fn rows(&self) -> Vec<&Row> {
        self.rows.values().map(|(row, _)| row).collect()
    }

    /// Records a change: raises the revision of `row` and keeps a copy.
    pub(super) fn record(&mut self, row: &mut Row, change: Change, now: i64) {
        let was = row.revision;
        row.revision += 1;
        row.updated = now;
        self.entries.push(entry(self.service, row, change));
        let was = self.rows.get(&row.id).map_or(was, |(_, was)| *was);
        self.rows.insert(row.id, (row.clone(), was));
    }
}

/// Stores the changed rows and appends their feed rows. [`Error::LeaseLost`] if one has changed in the database.
pub(super) async fn save(tx: &mut Transaction, changed: Changed) -> Result<(), Error> {
    if changed.rows.is_empty() {
        return Ok(());
    }
    let sent = changed.rows.values().map(|(row, was)| {
        json!({"id": row.id.to_string(), "was": was, "state": row.state as i64, "revision": row.revision, "attempt": row.attempt,
            "fence": row.fence, "worker": row.worker, "lease_until": row.lease_until, "run_at": row.run_at,
            "cancel_requested": i64::from(row.cancel_requested), "progress": hex(&row.progress),
            "result": hex(&row.result), "updated": row.updated, "finished": if row.is_done() { row.updated } else { 0 },
            "phase": row.phase as i64 + if row.stuck { STUCK } else { 0 }, "phase_since": row.phase_since})
    });
    let table = tx.dialect().rows(&[
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
        Number("phase"),
        Number("phase_since"),
    ]);
    let update = format!(
        "UPDATE operations SET state = new.state, revision = new.revision, attempt = new.attempt, fence = new.fence,
            worker = new.worker, lease_until = new.lease_until, run_at = new.run_at,
            cancel_requested = new.cancel_requested, progress = new.progress, result = new.result,
            updated = new.updated, finished = new.finished, phase = new.phase, phase_since = new.phase_since
        FROM {table} AS new WHERE operations.id = new.id AND operations.revision = new.was"
    );
    let update = sqlx::query(AssertSqlSafe(update)).bind(sent.collect::<Value>().to_string());
    if update.execute(&mut **tx).await?.rows_affected() != changed.rows.len() as u64 {
        return Err(Error::LeaseLost);
    }
    end(tx, changed.rows.values().map(|(row, _)| row).filter(|row| row.is_done()).collect()).await?;
    changed.entries.into_iter().for_each(|entry| log::append(tx, entry));
    Ok(())
}

/// Deletes what operations need no more that are done now.
async fn end(tx: &mut Transaction, done: Vec<&Row>) -> Result<(), Error> {
    let (sagas, works): (Vec<_>, Vec<_>) = done.into_iter().partition(|row| row.is_saga());
    saga_steps::end(tx, &sagas.iter().map(|row| row.id).collect::<Vec<_>>()).await?;
    // What an operation without success has left is for its clean-up.
    let (failed, succeeded): (Vec<_>, Vec<_>) = works.into_iter().partition(|row| row.needs_clean_up());
    clean_ups::insert(tx, &failed).await?;
    let succeeded: Vec<_> = succeeded.into_iter().map(|row| row.id).collect();
    delete_of(tx, "operation_steps", &succeeded).await?;
    // A failed saga keeps its input, for a retry.
    let sagas = sagas.into_iter().filter(|row| row.state != State::Failed).map(|row| row.id);
    delete_of(tx, "operation_input", &succeeded.into_iter().chain(sagas).collect::<Vec<_>>()).await
}

/// Deletes a done operation, if it still exists. Its feed rows stay, so that positions have no holes.
pub(super) async fn delete(tx: &mut Transaction, id: Uuid) -> Result<(), Error> {
    let delete = sqlx::query("DELETE FROM operations WHERE id = $1 AND state >= 3").bind(id.to_string());
    let deleted = delete.execute(&mut **tx).await?.rows_affected() == 1;
    if deleted { delete_rows_of(tx, &[id]).await } else { Ok(()) }
}

/// Deletes the steps and the input of operations that no longer exist, unless their clean-up still needs it.
pub(super) async fn delete_rows_of(tx: &mut Transaction, operations: &[Uuid]) -> Result<(), Error> {
    if operations.is_empty() {
        return Ok(());
    }
    delete_of(tx, "saga_steps", operations).await?;
    let open = clean_ups::open_among(tx, operations).await?;
    let free: Vec<_> = operations.iter().copied().filter(|id| !open.contains(id)).collect();
    delete_of(tx, "operation_input", &free).await
}

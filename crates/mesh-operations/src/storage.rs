//! Reads operations. `changes` writes them.

use std::collections::HashMap;

use mesh_proto::mesh::operations::v1::{Phase, State};
use mesh_rpc::call::{Caller, Cause, Trace};
use mesh_store::rows::Column::Text;
use mesh_store::rows::uuid;
use mesh_store::{Error, Store, Transaction};
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyExecutor, AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::row::Row;

/// The columns that [`read`] decodes.
pub(super) const COLUMNS: &str =
    "id, owner, kind, state, revision, attempt, fence, worker, lease_until, run_at, deadline_at, trace, cause,
    cancel_requested, progress, result, created, updated, phase, phase_since";

/// What is added to the number of a phase while the saga is stuck in it.
pub(super) const STUCK: i64 = 4;

/// Locks operations for this transaction, and returns those that exist, in no order.
pub(super) async fn lock(tx: &mut Transaction, wanted: &[Uuid]) -> Result<Vec<Row>, Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let dialect = tx.dialect();
    // Always in the same order, so that two transactions cannot deadlock.
    let lock = format!(
        "SELECT {COLUMNS} FROM operations WHERE id IN (SELECT id FROM {} AS wanted) ORDER BY id{}",
        dialect.rows(&[Text("id")]),
        dialect.lock_rows()
    );
    Ok(sqlx::query(AssertSqlSafe(lock)).bind(ids(wanted)).try_map(read).fetch_all(&mut **tx).await?)
}

/// Reads an operation of any caller.
pub(super) async fn peek(database: impl AnyExecutor<'_>, id: Uuid) -> Result<Option<Row>, Error> {
    let peek = format!("SELECT {COLUMNS} FROM operations WHERE id = $1");
    Ok(sqlx::query(AssertSqlSafe(peek)).bind(id.to_string()).try_map(read).fetch_optional(database).await?)
}

/// Reads an operation that `caller` sees.
pub(super) async fn get(store: &Store, service: &str, caller: &Caller, id: Uuid) -> Result<Option<Row>, Error> {
    let get = format!("SELECT {COLUMNS} FROM operations WHERE {} AND id = $2", seen_by(caller, service));
    let get = sqlx::query(AssertSqlSafe(get)).bind(caller.name()).bind(id.to_string());
    Ok(get.try_map(read).fetch_optional(store.reader()).await?)
}

/// Reads the operation that a request has started, and the hash of that request.
pub(super) async fn by_request(
    database: impl AnyExecutor<'_>,
    caller: &Caller,
    kind: &str,
    request_id: Uuid,
) -> Result<Option<(Row, Vec<u8>)>, Error> {
    let find =
        format!("SELECT {COLUMNS}, request_hash FROM operations WHERE owner = $1 AND kind = $2 AND request_id = $3");
    let find = sqlx::query(AssertSqlSafe(find)).bind(caller.name()).bind(kind).bind(request_id.to_string());
    let find = find.try_map(|row: AnyRow| Ok((row.try_get("request_hash")?, read(row)?)));
    Ok(find.fetch_optional(database).await?.map(|(hash, row)| (row, hash)))
}

/// The last operation of a kind that an owner has started.
pub(super) async fn last_of_kind(
    database: impl AnyExecutor<'_>,
    owner: &Caller,
    kind: &str,
) -> Result<Option<Row>, Error> {
    let last = format!("SELECT {COLUMNS} FROM operations WHERE owner = $1 AND kind = $2 ORDER BY id DESC LIMIT 1");
    let last = sqlx::query(AssertSqlSafe(last)).bind(owner.name()).bind(kind);
    Ok(last.try_map(read).fetch_optional(database).await?)
}

/// The condition of the operations of a service that a caller sees, whose name is `$1`: its own, or all. A caller of
/// whom nothing is known, while no identity is asked for, also sees those of the service itself.
pub(super) fn seen_by(caller: &Caller, service: &str) -> String {
    if caller.is_operator() {
        "$1 <> ''".to_owned()
    } else if caller.is_anonymous() {
        format!("owner IN ($1, '{}')", Caller::service(service).name())
    } else {
        "owner = $1".to_owned()
    }
}

/// Reads the revisions of operations, in one query.
pub(super) async fn revisions(store: &Store, wanted: &[Uuid]) -> Result<Vec<(Uuid, i64)>, Error> {
    let table = store.dialect().rows(&[Text("id")]);
    let revisions = format!("SELECT id, revision FROM operations WHERE id IN (SELECT id FROM {table} AS wanted)");
    let revisions = sqlx::query(AssertSqlSafe(revisions)).bind(ids(wanted));
    Ok(revisions.try_map(|row: AnyRow| Ok((uuid(&row)?, row.try_get(1)?))).fetch_all(store.reader()).await?)
}

/// The causes of operations, by id, without those that are deleted.
pub(super) async fn causes(tx: &mut Transaction, wanted: &[Uuid]) -> Result<HashMap<Uuid, Cause>, Error> {
    let table = tx.dialect().rows(&[Text("id")]);
    let causes = format!("SELECT {COLUMNS} FROM operations WHERE id IN (SELECT id FROM {table} AS wanted)");
    let rows = sqlx::query(AssertSqlSafe(causes)).bind(ids(wanted)).try_map(read).fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().filter_map(|row| Some((row.id, row.cause()?))).collect())
}

/// Ids as the JSON text of a parameter, see [`mesh_store::rows`].
pub(super) fn ids(ids: &[Uuid]) -> String {
    ids.iter().map(|id| json!({"id": id.to_string()})).collect::<Value>().to_string()
}

pub(super) fn read(row: AnyRow) -> sqlx::Result<Row> {
    let state: i64 = row.try_get("state")?;
    let state = i32::try_from(state).ok().and_then(|state| State::try_from(state).ok());
    let (phase, stuck) = phase(row.try_get("phase")?)?;
    Ok(Row {
        id: uuid(&row)?,
        caller: Caller::named(row.try_get("owner")?),
        kind: row.try_get("kind")?,
        state: state.ok_or_else(|| sqlx::Error::Decode("an unknown state".into()))?,
        revision: row.try_get("revision")?,
        attempt: row.try_get("attempt")?,
        fence: row.try_get("fence")?,
        worker: row.try_get("worker")?,
        lease_until: row.try_get("lease_until")?,
        run_at: row.try_get("run_at")?,
        deadline_at: row.try_get("deadline_at")?,
        trace: Trace::parse(row.try_get("trace")?),
        cause: row.try_get::<&str, _>("cause")?.parse().ok(),
        cancel_requested: row.try_get::<i64, _>("cancel_requested")? != 0,
        progress: row.try_get("progress")?,
        result: row.try_get("result")?,
        created: row.try_get("created")?,
        updated: row.try_get("updated")?,
        phase,
        stuck,
        phase_since: row.try_get("phase_since")?,
    })
}

/// The phase of a stored number, and whether the saga is stuck in it.
fn phase(stored: i64) -> sqlx::Result<(Phase, bool)> {
    let stuck = stored > STUCK;
    let phase = i32::try_from(if stuck { stored - STUCK } else { stored }).ok().and_then(|it| Phase::try_from(it).ok());
    Ok((phase.ok_or_else(|| sqlx::Error::Decode("an unknown phase".into()))?, stuck))
}

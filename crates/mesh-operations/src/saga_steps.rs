//! Reads and writes the steps of sagas. A row is written when a remote step begins, and when a step ends.

use mesh_proto::mesh::operations::v1::{Step, StepState};
use mesh_store::rows::Column::Text;
use mesh_store::{Error, Store, Transaction, timestamp};
use prost::Message as _;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::storage::ids;

/// A stored step. Times are microseconds since 1970, 0 for none.
#[derive(Clone, Debug)]
pub(super) struct StepRow {
    pub(super) name: String,
    /// The order in which the steps of the operation began, from 1.
    pub(super) position: i64,
    pub(super) state: StepState,
    pub(super) attempt: i64,
    pub(super) begun: i64,
    pub(super) ended: i64,
    /// An encoded `google.rpc.Status`; empty for none.
    pub(super) error: Vec<u8>,
    /// The encoded result; empty until the step is done, and after the operation is.
    pub(super) result: Vec<u8>,
}

impl StepRow {
    /// Whether the step was done and is not undone. An undoing keeps the end of a step that was done.
    pub(super) fn was_done(&self) -> bool {
        self.state == StepState::Done || (self.state == StepState::Undoing && self.ended > 0)
    }

    /// The message of the contract.
    fn to_step(&self) -> Step {
        Step {
            name: self.name.clone(),
            state: self.state.into(),
            attempt: i32::try_from(self.attempt).unwrap_or(i32::MAX),
            begin_time: Some(timestamp(self.begun)),
            end_time: Some(self.ended).filter(|ended| *ended > 0).map(timestamp),
            error: Some(&self.error[..])
                .filter(|error| !error.is_empty())
                .and_then(|error| tonic_types::Status::decode(error).ok()),
        }
    }
}

/// The steps of an operation, in the order in which they began.
pub(super) async fn load(store: &Store, id: Uuid) -> Result<Vec<StepRow>, Error> {
    let load = "SELECT name, position, state, attempt, begun, ended, error, result FROM saga_steps
        WHERE operation = $1 ORDER BY position";
    Ok(sqlx::query(load).bind(id.to_string()).try_map(read).fetch_all(store.reader()).await?)
}

/// The steps of an operation, for its metadata.
pub(super) async fn shown(store: &Store, id: Uuid) -> Result<Vec<Step>, Error> {
    Ok(load(store, id).await?.iter().map(StepRow::to_step).collect())
}

/// Stores a step that the caller knows in this state, `None` for a new one; false if it is in another one. The
/// transaction has locked the operation.
pub(super) async fn store(
    tx: &mut Transaction,
    id: Uuid,
    known: Option<StepState>,
    step: &StepRow,
) -> Result<bool, Error> {
    let store = "INSERT INTO saga_steps (operation, name, position, state, attempt, begun, ended, error, result)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        ON CONFLICT (operation, name) DO UPDATE SET state = excluded.state, attempt = excluded.attempt,
            ended = excluded.ended, error = excluded.error, result = excluded.result WHERE saga_steps.state = $10";
    let store = sqlx::query(store).bind(id.to_string()).bind(step.name.clone()).bind(step.position);
    let store = store.bind(i64::from(i32::from(step.state))).bind(step.attempt).bind(step.begun).bind(step.ended);
    let store = store.bind(step.error.clone()).bind(step.result.clone());
    let store = store.bind(i64::from(i32::from(known.unwrap_or_default())));
    Ok(store.execute(&mut **tx).await?.rows_affected() == 1)
}

/// Deletes the results of the steps of operations that are done. The steps stay for their readers.
pub(super) async fn end(tx: &mut Transaction, done: &[Uuid]) -> Result<(), Error> {
    if done.is_empty() {
        return Ok(());
    }
    let wanted = tx.dialect().rows(&[Text("id")]);
    let empty = format!("UPDATE saga_steps SET result = $2 WHERE operation IN (SELECT id FROM {wanted} AS wanted)");
    sqlx::query(AssertSqlSafe(empty)).bind(ids(done)).bind(Vec::new()).execute(&mut **tx).await?;
    Ok(())
}

fn read(row: AnyRow) -> sqlx::Result<StepRow> {
    let state = i32::try_from(row.try_get::<i64, _>("state")?).ok().and_then(|state| StepState::try_from(state).ok());
    Ok(StepRow {
        name: row.try_get("name")?,
        position: row.try_get("position")?,
        state: state.ok_or_else(|| sqlx::Error::Decode("an unknown state of a step".into()))?,
        attempt: row.try_get("attempt")?,
        begun: row.try_get("begun")?,
        ended: row.try_get("ended")?,
        error: row.try_get("error")?,
        result: row.try_get("result")?,
    })
}

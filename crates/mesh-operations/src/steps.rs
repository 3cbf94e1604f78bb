//! Reads and writes the input of operations and the results of their steps.

use std::collections::HashMap;

use mesh_store::rows::Column::Text;
use mesh_store::rows::uuid;
use mesh_store::{Error, Store, Transaction};
use prost::Message;
use sqlx::any::AnyRow;
use sqlx::{AnyExecutor, AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::storage::ids;

/// The inputs of some operations, by id.
pub(super) async fn inputs(tx: &mut Transaction, wanted: &[Uuid]) -> Result<HashMap<Uuid, Vec<u8>>, Error> {
    let table = tx.dialect().rows(&[Text("id")]);
    let inputs =
        format!("SELECT operation, input FROM operation_input WHERE operation IN (SELECT id FROM {table} AS wanted)");
    let inputs = sqlx::query(AssertSqlSafe(inputs)).bind(ids(wanted));
    let inputs = inputs.try_map(|row| Ok((uuid(&row)?, row.try_get(1)?))).fetch_all(&mut **tx).await?;
    Ok(inputs.into_iter().collect())
}

/// The input of an operation, if it is kept.
pub(super) async fn input(database: impl AnyExecutor<'_>, id: Uuid) -> Result<Option<Vec<u8>>, Error> {
    let input = sqlx::query("SELECT input FROM operation_input WHERE operation = $1").bind(id.to_string());
    Ok(input.try_map(|row: AnyRow| row.try_get(0)).fetch_optional(database).await?)
}

/// The encoded result of a step, if it is finished.
async fn step(database: impl AnyExecutor<'_>, id: Uuid, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let step = sqlx::query("SELECT result FROM operation_steps WHERE operation = $1 AND name = $2");
    let step = step.bind(id.to_string()).bind(name).try_map(|row: AnyRow| row.try_get(0));
    Ok(step.fetch_optional(database).await?)
}

/// The decoded result of a step, if it is finished.
pub(super) async fn finished<R: Message + Default>(store: &Store, id: Uuid, name: &str) -> Result<Option<R>, Error> {
    let Some(result) = step(store.reader(), id, name).await? else { return Ok(None) };
    R::decode(result.as_slice()).map(Some).map_err(|error| Error::Defect(sqlx::Error::Decode(error.into())))
}

/// Stores the result of a finished step.
pub(super) async fn finish_step(tx: &mut Transaction, id: Uuid, name: &str, result: Vec<u8>) -> Result<(), Error> {
    let finish = sqlx::query("INSERT INTO operation_steps (operation, name, result) VALUES ($1, $2, $3)");
    finish.bind(id.to_string()).bind(name).bind(result).execute(&mut **tx).await?;
    Ok(())
}

/// Deletes the rows of some operations from a table.
pub(super) async fn delete_of(tx: &mut Transaction, table: &'static str, operations: &[Uuid]) -> Result<(), Error> {
    if operations.is_empty() {
        return Ok(());
    }
    let wanted = tx.dialect().rows(&[Text("id")]);
    let delete = format!("DELETE FROM {table} WHERE operation IN (SELECT id FROM {wanted} AS wanted)");
    sqlx::query(AssertSqlSafe(delete)).bind(ids(operations)).execute(&mut **tx).await?;
    Ok(())
}

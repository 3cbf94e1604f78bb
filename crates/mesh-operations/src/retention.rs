//! Retention: deletes done operations and feed rows after their configured time.

use mesh_feed::retention;
use mesh_store::rows::uuid;
use mesh_store::{BATCH, Error, Store};

use super::clock::micros;
use super::settings::Retention;
use super::{changes, clean_ups, clock};

/// Deletes operations and feed rows that are older than `keep` allows, in small transactions.
///
/// # Errors
///
/// As for any transaction. Deleted rows stay deleted; a later call deletes the rest.
pub async fn delete_old(store: &Store, keep: Retention) -> Result<(), Error> {
    let now = clock::now(store.reader(), store.dialect()).await?;
    while delete_operations(store, now - micros(keep.operations)).await? {}
    while clean_ups::give_up(store, now - micros(keep.operations)).await? {}

    retention::delete_events(store, now - micros(keep.events)).await
}

/// Deletes one batch of the operations that ended before `until`; true if there may be more.
async fn delete_operations(store: &Store, until: i64) -> Result<bool, Error> {
    let mut tx = store.begin().await?;
    let delete = "DELETE FROM operations WHERE id IN
        (SELECT id FROM operations WHERE finished > 0 AND finished < $1 ORDER BY finished LIMIT $2) RETURNING id";
    let delete = sqlx::query(delete).bind(until).bind(BATCH);
    let deleted = delete.try_map(|row| uuid(&row)).fetch_all(&mut *tx).await?;
    changes::delete_rows_of(&mut tx, &deleted).await?;
    tx.commit().await?;
    Ok(deleted.len() == BATCH.cast_unsigned() as usize)
}

//! Retention: operations are deleted a while after they are done, rows of the feed sooner.

use mesh_feed::retention;
use mesh_store::rows::uuid;
use mesh_store::{BATCH, Error, Store};

use super::clock::micros;
use super::settings::Retention;
use super::{changes, clock};

/// Deletes operations and rows of the feed that are older than `retention`.
///
/// # Errors
///
/// As for any transaction; what was deleted before stays deleted.
pub async fn delete_old(store: &Store, keep: Retention) -> Result<(), Error> {
    let now = clock::now(store.reader(), store.dialect()).await?;
    while delete_operations(store, now - micros(keep.operations)).await? {}

    retention::delete_events(store, now - micros(keep.events)).await
}

/// Deletes some operations that ended before `until`; true if there may be more.
async fn delete_operations(store: &Store, until: i64) -> Result<bool, Error> {
    let mut tx = store.begin().await?;
    let delete = "DELETE FROM operations WHERE id IN
        (SELECT id FROM operations WHERE finished > 0 AND finished < $1 ORDER BY finished LIMIT $2) RETURNING id";
    let delete = sqlx::query(delete).bind(until).bind(BATCH);
    let deleted = delete.try_map(|row| uuid(&row)).fetch_all(&mut *tx).await?;
    changes::delete_of(&mut tx, "operation_input", &deleted).await?;
    tx.commit().await?;
    Ok(deleted.len() == BATCH.cast_unsigned() as usize)
}

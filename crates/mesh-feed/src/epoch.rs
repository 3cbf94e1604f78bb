//! The epoch of a database: its identity between two restores.
//!
//! A restored database lacks its last rows and issues their numbers again, so a cursor from before the restore would
//! seem valid and its stream would miss events. A new epoch makes such cursors invalid.
//!
//! See: docs/operate/backup.md

use mesh_store::rows::uuid;
use mesh_store::{Error, Store};
use sqlx::any::AnyRow;
use uuid::Uuid;

const EPOCH: &str = "SELECT epoch FROM store_meta WHERE id = 1";

/// Reads the epoch of a database. A new database gets its first epoch; any other is only read.
///
/// # Errors
///
/// As for any transaction; the call may be retried.
pub async fn epoch(store: &Store) -> Result<Uuid, Error> {
    let known = sqlx::query(EPOCH).try_map(|row: AnyRow| uuid(&row)).fetch_optional(store.reader()).await?;
    if let Some(epoch) = known {
        return Ok(epoch);
    }
    let mut tx = store.begin().await?;
    let begin = sqlx::query("INSERT INTO store_meta (id, epoch) VALUES (1, $1) ON CONFLICT (id) DO NOTHING");
    begin.bind(Uuid::new_v4().to_string()).execute(&mut *tx).await?;
    let epoch = sqlx::query(EPOCH).try_map(|row: AnyRow| uuid(&row)).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(epoch)
}

/// Gives a database a new epoch and returns it. A process that serves the database keeps the old one: stop it first.
///
/// # Errors
///
/// As for any transaction; the call may be retried.
pub async fn renew_epoch(store: &Store) -> Result<Uuid, Error> {
    let mut tx = store.begin().await?;
    let renew = "INSERT INTO store_meta (id, epoch) VALUES (1, $1)
        ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch RETURNING epoch";
    let renew = sqlx::query(renew).bind(Uuid::new_v4().to_string()).try_map(|row: AnyRow| uuid(&row));
    let epoch = renew.fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(epoch)
}

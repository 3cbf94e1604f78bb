//! The epoch of a database tells its cursors from those of any other, and from its own before a backup was restored.
//!
//! A restored database has forgotten its last rows and gives out their numbers again. Cursors from before would seem to
//! fit, and their holders would miss the difference. A new epoch makes them invalid.

use mesh_store::rows::uuid;
use mesh_store::{Error, Store};
use sqlx::any::AnyRow;
use uuid::Uuid;

/// The epoch of a database; a new database gets its first one.
///
/// # Errors
///
/// As for any transaction.
pub async fn epoch(store: &Store) -> Result<Uuid, Error> {
    let mut tx = store.begin().await?;
    let begin = sqlx::query("INSERT INTO store_meta (id, epoch) VALUES (1, $1) ON CONFLICT (id) DO NOTHING");
    begin.bind(Uuid::new_v4().to_string()).execute(&mut *tx).await?;
    let epoch = sqlx::query("SELECT epoch FROM store_meta WHERE id = 1").try_map(|row: AnyRow| uuid(&row));
    let epoch = epoch.fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(epoch)
}

/// Gives a database a new epoch. A process that serves it keeps the old one: stop it first.
///
/// # Errors
///
/// As for any transaction.
pub async fn renew_epoch(store: &Store) -> Result<Uuid, Error> {
    let mut tx = store.begin().await?;
    let renew = "INSERT INTO store_meta (id, epoch) VALUES (1, $1)
        ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch RETURNING epoch";
    let renew = sqlx::query(renew).bind(Uuid::new_v4().to_string()).try_map(|row: AnyRow| uuid(&row));
    let epoch = renew.fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(epoch)
}

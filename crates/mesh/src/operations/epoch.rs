//! What makes the cursors of a database different from those of any other, and of itself before a backup was restored.
//!
//! A restored database has forgotten what it told last, and will tell something else under the same numbers. Its
//! cursors would seem to fit, and whoever holds one would miss the difference without a word. A new epoch makes them
//! strangers.

use sqlx::any::AnyRow;
use uuid::Uuid;

use super::storage::uuid;
use crate::store::{Error, Store};

/// The epoch of a database, which gets its first one here.
pub(super) async fn epoch(store: &Store) -> Result<Uuid, Error> {
    let mut tx = store.begin().await?;
    let begin = sqlx::query("INSERT INTO store_meta (id, epoch) VALUES (1, $1) ON CONFLICT (id) DO NOTHING");
    begin.bind(Uuid::new_v4().to_string()).execute(&mut *tx).await?;
    let epoch = sqlx::query("SELECT epoch FROM store_meta WHERE id = 1").try_map(|row: AnyRow| uuid(&row));
    let epoch = epoch.fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(epoch)
}

/// Gives a database a new epoch. A process that is serving it goes on in the old one: stop it first.
pub(crate) async fn renew_epoch(store: &Store) -> Result<Uuid, Error> {
    let mut tx = store.begin().await?;
    let renew = "INSERT INTO store_meta (id, epoch) VALUES (1, $1)
        ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch RETURNING epoch";
    let renew = sqlx::query(renew).bind(Uuid::new_v4().to_string()).try_map(|row: AnyRow| uuid(&row));
    let epoch = renew.fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(epoch)
}

//! Forgetting: operations a while after they are done, what the feed has told of them sooner.
//!
//! It goes in small transactions, so that those who write wait no longer than for each other. The feed is forgotten
//! from its begin only, and its floor is raised with it: whoever comes back to a place below learns that something is
//! missing, instead of not learning it.

use sqlx::any::AnyRow;
use sqlx::{AnyExecutor, Row as _};

use super::{changes, micros, storage};
use crate::config::Retention;
use crate::store::{BATCH, Error, Store};

/// Forgets what is older than it need be.
pub(crate) async fn forget(store: &Store, retention: Retention) -> Result<(), Error> {
    let now = storage::now(store.reader(), store.dialect()).await?;
    while forget_operations(store, now - micros(retention.operations)).await? {}

    let until = now - micros(retention.events);
    let mut last = String::new();
    loop {
        let owners = owners(store.reader(), &last).await?;
        let Some(end) = owners.last() else { return Ok(()) };
        last.clone_from(end);
        for owner in owners {
            while forget_events(store, &owner, until).await? {}
        }
    }
}

/// Forgets some operations that ended before `until`; true if there may be more.
async fn forget_operations(store: &Store, until: i64) -> Result<bool, Error> {
    let mut tx = store.begin().await?;
    let delete = "DELETE FROM operations WHERE id IN
        (SELECT id FROM operations WHERE finished > 0 AND finished < $1 ORDER BY finished LIMIT $2) RETURNING id";
    let delete = sqlx::query(delete).bind(until).bind(BATCH);
    let deleted = delete.try_map(|row| storage::uuid(&row)).fetch_all(&mut *tx).await?;
    changes::forget(&mut tx, store.dialect(), "operation_input", &deleted).await?;
    tx.commit().await?;
    Ok(deleted.len() == BATCH.cast_unsigned() as usize)
}

/// Some of those who have a feed with anything in it, behind the one called `last`.
async fn owners(database: impl AnyExecutor<'_>, last: &str) -> Result<Vec<String>, Error> {
    let owners = sqlx::query("SELECT owner FROM feed_owner WHERE owner > $1 AND floor <= next ORDER BY owner LIMIT $2");
    let owners = owners.bind(last).bind(BATCH).try_map(|row: AnyRow| row.try_get(0));
    Ok(owners.fetch_all(database).await?)
}

/// Forgets some of what an owner's feed told before `until`; true if there may be more.
async fn forget_events(store: &Store, owner: &str, until: i64) -> Result<bool, Error> {
    // By position and not by time: two that were committed at the same moment may be told in either order.
    let oldest = sqlx::query("SELECT position, told FROM feed WHERE owner = $1 ORDER BY position LIMIT $2");
    let oldest = oldest.bind(owner).bind(BATCH).try_map(|row: AnyRow| Ok((row.try_get(0)?, row.try_get(1)?)));
    let oldest: Vec<(i64, i64)> = oldest.fetch_all(store.reader()).await?;
    let expired: Vec<_> = oldest.iter().take_while(|(_, told)| *told < until).collect();
    let Some((last, _)) = expired.last() else { return Ok(false) };

    let mut tx = store.begin().await?;
    let delete = sqlx::query("DELETE FROM feed WHERE owner = $1 AND position <= $2");
    delete.bind(owner).bind(last).execute(&mut *tx).await?;
    // Last, as whoever appends takes it last.
    let raise = sqlx::query("UPDATE feed_owner SET floor = $2 WHERE owner = $1 AND floor < $2");
    raise.bind(owner).bind(last + 1).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(expired.len() == BATCH.cast_unsigned() as usize)
}

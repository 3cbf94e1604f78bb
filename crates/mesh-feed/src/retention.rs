//! Deletes old rows of a feed.
//!
//! It deletes in small transactions, from the start of a feed only, and raises the floor of the feed with them. A
//! stream that resumes below the floor learns that rows are missing.

use mesh_store::{BATCH, Error, Store};
use sqlx::any::AnyRow;
use sqlx::{AnyExecutor, Row as _};

/// Deletes the rows of all feeds that were written before `until`, in microseconds since 1970.
///
/// # Errors
///
/// As for any transaction. Deleted rows stay deleted; a later call deletes the rest.
pub async fn delete_events(store: &Store, until: i64) -> Result<(), Error> {
    let mut last = String::new();
    loop {
        let owners = owners(store.reader(), &last).await?;
        let Some(end) = owners.last() else { return Ok(()) };
        last.clone_from(end);
        for owner in owners {
            while delete_some(store, &owner, until).await? {}
        }
    }
}

/// A batch of the callers whose feeds have rows, behind the name `last`.
async fn owners(database: impl AnyExecutor<'_>, last: &str) -> Result<Vec<String>, Error> {
    let owners = sqlx::query("SELECT owner FROM feed_owner WHERE owner > $1 AND floor <= next ORDER BY owner LIMIT $2");
    let owners = owners.bind(last).bind(BATCH).try_map(|row: AnyRow| row.try_get(0));
    Ok(owners.fetch_all(database).await?)
}

/// Deletes one batch of the rows of a feed that were written before `until`; true if there may be more.
async fn delete_some(store: &Store, owner: &str, until: i64) -> Result<bool, Error> {
    // Ordered by position, not by time: two rows may have the same time.
    let oldest = sqlx::query("SELECT position, told FROM feed WHERE owner = $1 ORDER BY position LIMIT $2");
    let oldest = oldest.bind(owner).bind(BATCH).try_map(|row: AnyRow| Ok((row.try_get(0)?, row.try_get(1)?)));
    let oldest: Vec<(i64, i64)> = oldest.fetch_all(store.reader()).await?;
    let expired: Vec<_> = oldest.iter().take_while(|(_, time)| *time < until).collect();
    let Some((last, _)) = expired.last() else { return Ok(false) };

    let mut tx = store.begin().await?;
    let delete = sqlx::query("DELETE FROM feed WHERE owner = $1 AND position <= $2");
    delete.bind(owner).bind(last).execute(&mut *tx).await?;
    // The counter row last, in the order of an append.
    let raise = sqlx::query("UPDATE feed_owner SET floor = $2 WHERE owner = $1 AND floor < $2");
    raise.bind(owner).bind(last + 1).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(expired.len() == BATCH.cast_unsigned() as usize)
}

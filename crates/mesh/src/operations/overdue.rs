//! Ends what is out of time and in nobody's hands.
//!
//! A worker does so with its own kind, at once. But of a kind that no program works on any more, or that has a longer
//! queue than its workers get through, an operation would wait for ever, and so would whoever follows it.

use super::feed::Change;
use super::{Operations, changes, name, outcome, storage};
use crate::store::{BATCH, Error};

/// Ends all of it.
pub(crate) async fn end_overdue(operations: &Operations) -> Result<(), Error> {
    while end_some(operations).await? {}
    Ok(())
}

/// Ends some of it; true if there may be more.
async fn end_some(operations: &Operations) -> Result<bool, Error> {
    let Operations { service, store, .. } = operations;
    let mut tx = store.begin().await?;
    let now = storage::now(&mut *tx, store.dialect()).await?;
    let rows = storage::overdue(&mut tx, store.dialect(), now, BATCH).await?;
    let more = rows.len() == BATCH.cast_unsigned() as usize;
    let mut changed = changes::Changed::new(service);
    for mut row in rows {
        // However often it was begun: attempts are for those to count who know the kind.
        if outcome::end_hopeless(&mut row, i64::MAX, now) {
            tracing::warn!(
                operation = name::format(service, row.id),
                kind = row.kind,
                "out of time, and nobody works on it"
            );
            changed.note(&mut row, Change::State, now);
        }
    }
    operations.wake_followers(&mut tx, &changed.rows());
    changes::save(&mut tx, store.dialect(), changed).await?;
    tx.commit().await?;
    Ok(more)
}

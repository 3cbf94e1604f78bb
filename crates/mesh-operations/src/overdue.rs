//! Ends operations that are past their deadline and under no lease.
//!
//! A worker ends those of its own kind at once. An operation of a kind that no program works on any more, or whose queue
//! is longer than its workers get through, would wait for ever, and its followers with it.

use mesh_proto::mesh::operations::v1::Change;
use mesh_store::{BATCH, Error};

use super::operations::Operations;
use super::records::Records;
use super::{changes, clock, leases, name, outcome};

/// Ends all of them.
///
/// # Errors
///
/// As for any transaction; what was ended before stays ended.
pub async fn end_overdue(operations: &Operations) -> Result<(), Error> {
    while end_some(&operations.records).await? {}
    Ok(())
}

/// Ends some of them; true if there may be more.
async fn end_some(records: &Records) -> Result<bool, Error> {
    let Records { service, store, .. } = records;
    let mut tx = store.begin().await?;
    let now = clock::now(&mut *tx, store.dialect()).await?;
    let rows = leases::overdue(&mut tx, now, BATCH).await?;
    let more = rows.len() == BATCH.cast_unsigned() as usize;
    let mut changed = changes::Changed::new(service);
    for mut row in rows {
        // However often it was begun: only a worker of its kind knows how many attempts it has.
        if outcome::end_exhausted(&mut row, i64::MAX, now) {
            tracing::warn!(
                operation = name::format(service, row.id),
                kind = row.kind,
                "past its deadline, and no worker holds it"
            );
            changed.note(&mut row, Change::State, now);
        }
    }
    records.notify_followers(&mut tx, &changed.rows());
    changes::save(&mut tx, changed).await?;
    tx.commit().await?;
    Ok(more)
}

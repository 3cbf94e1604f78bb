//! Ends operations that are past their deadline and under no lease.
//!
//! A worker ends those of its own kind at once. This covers kinds that no program works on any more, and queues that
//! are longer than their workers can process: such operations and their followers would wait for ever.

use mesh_proto::mesh::operations::v1::Change;
use mesh_store::{BATCH, Error};

use super::operations::Operations;
use super::outcome::Exhausted;
use super::records::Records;
use super::{changes, clock, leases, name, outcome};

/// Ends all operations that are past their deadline and under no lease, in small transactions.
///
/// # Errors
///
/// As for any transaction. Ended operations stay ended; a later call ends the rest.
pub async fn end_past_deadline(operations: &Operations) -> Result<(), Error> {
    while end_some(&operations.records).await? {}
    Ok(())
}

/// Ends one batch of them; true if there may be more.
async fn end_some(records: &Records) -> Result<bool, Error> {
    let Records { service, store, .. } = records;
    let mut tx = store.begin().await?;
    let now = clock::now(&mut *tx, store.dialect()).await?;
    let rows = leases::past_deadline(&mut tx, now, BATCH).await?;
    let more = rows.len() == BATCH.cast_unsigned() as usize;
    let mut changed = changes::Changed::new(service);
    for mut row in rows {
        // The limit of attempts does not matter here: only a worker of the kind knows it.
        let exhausted = outcome::end_exhausted(&mut row, i64::MAX, now);
        let (operation, kind) = (name::format(service, row.id), &row.kind);
        match exhausted {
            Exhausted::No | Exhausted::Stuck => continue,
            Exhausted::Ended => {
                tracing::warn!(
                    operation,
                    kind,
                    "the operation is ended: it is past its deadline and no worker holds it"
                );
            }
            Exhausted::Undoes => {
                tracing::warn!(
                    operation,
                    kind,
                    "the saga is past its deadline and no worker holds it: one undoes its steps"
                );
            }
        }
        changed.record(&mut row, Change::State, now);
    }
    records.notify_followers(&mut tx, &changed.rows());
    changes::save(&mut tx, changed).await?;
    tx.commit().await?;
    Ok(more)
}

//! The deletion of old rows, and the end of operations past their deadline.

use std::time::Duration;

use mesh_events::{self as events, Keep};
use mesh_operations::{self as operations, Operations, Retention};
use mesh_store::Store;

/// The interval of rounds. A shorter retention shortens it.
const HOUSEKEEPING: Duration = Duration::from_secs(3600);

/// Runs a round each hour, or more often if something is kept for less. Never returns.
pub(super) async fn housekeeping(stores: Vec<Store>, all: Vec<Operations>, retention: Retention, keep: Keep) {
    let mut ticks = tokio::time::interval(HOUSEKEEPING.min(retention.operations).min(retention.events).min(keep.0));
    let mut failing = false;
    loop {
        ticks.tick().await;
        let mut done = Vec::new();
        for operations in &all {
            done.push(operations::end_past_deadline(operations).await);
        }
        for store in &stores {
            done.extend([store.delete_old_answers().await, operations::delete_old(store, retention).await]);
            done.push(events::delete_old(store, keep).await);
        }
        let failed = done.into_iter().find_map(Result::err);
        // One warning an outage, not one a round and a database.
        match (&failed, failing) {
            (Some(error), false) => tracing::warn!(%error, "housekeeping failed; every round retries until it works"),
            (None, true) => tracing::info!("housekeeping works again"),
            _ => {}
        }
        failing = failed.is_some();
    }
}

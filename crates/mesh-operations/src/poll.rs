//! Finds changes whose notification was lost, or that another process made, and notifies their listeners.

use std::collections::HashMap;

use mesh_feed::log;
use mesh_feed::notifier::{Key, POLL_BATCH, poll_feeds, ticks};
use mesh_rpc::call::Caller;
use mesh_store::Error;
use uuid::Uuid;

use super::records::Records;
use super::storage;

/// Polls operations and feeds. Never ends by itself.
pub(super) async fn poll(records: &Records) {
    tokio::join!(poll_operations(records), poll_feeds(&records.notifier, records.service, &records.store));
}

/// The last position of a caller's feed, and the revisions of its followed operations.
type Known = HashMap<Caller, (i64, HashMap<Uuid, i64>)>;

async fn poll_operations(records: &Records) {
    let mut known = Known::new();
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        known = poll_once(records, known).await;
    }
}

/// Notifies the listeners of the operations that have changed since `known`, and returns what is known now. The cost
/// follows the callers and operations that this process follows, not those of the database.
async fn poll_once(records: &Records, mut known: Known) -> Known {
    // Listed before the reads: the stream of a later listener reads its operation itself.
    let followed = records.notifier.subjects();
    let callers: Vec<_> = followed.keys().cloned().collect();
    let mut now = Known::new();
    for callers in callers.chunks(POLL_BATCH) {
        // A caller that is missing after a failure is read again at the next tick.
        let Ok(last) = log::last(records.store.reader(), callers).await else { continue };
        for (caller, position) in last {
            // No change of a caller's operations leaves the counter of its feed as it was.
            let before = known.remove(&caller).unwrap_or_default();
            let followed = followed.get(&caller).map(Vec::as_slice).unwrap_or_default();
            let revisions = if before.0 == position && followed.iter().all(|id| before.1.contains_key(id)) {
                before.1
            } else if let Ok(revisions) = notify_changed(records, &caller, followed, &before.1).await {
                revisions
            } else {
                continue;
            };
            now.insert(caller, (position, revisions));
        }
    }
    now
}

/// Notifies the listeners of those operations whose revision is not the known one, and returns the revisions.
async fn notify_changed(
    records: &Records,
    caller: &Caller,
    followed: &[Uuid],
    known: &HashMap<Uuid, i64>,
) -> Result<HashMap<Uuid, i64>, Error> {
    let mut revisions = HashMap::new();
    for ids in followed.chunks(POLL_BATCH) {
        // The database may not have all of them: those of other services of this process, and deleted ones.
        revisions.extend(ids.iter().map(|id| (*id, 0)));
        revisions.extend(storage::revisions(&records.store, ids).await?);
    }
    for (id, _) in revisions.iter().filter(|(id, revision)| known.get(*id) != Some(*revision)) {
        records.notifier.notify(&Key::Subject(caller.clone(), *id));
    }
    Ok(revisions)
}

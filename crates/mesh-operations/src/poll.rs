//! Finds changes whose notification was lost, or that another process made, and notifies their listeners.

use std::collections::HashMap;

use mesh_feed::log;
use mesh_feed::notifier::{Key, POLL_BATCH, poll_feeds, ticks};

use super::records::Records;
use super::storage;

/// Polls operations and feeds. Never ends by itself.
pub(super) async fn poll(records: &Records) {
    tokio::join!(poll_operations(records), poll_feeds(&records.notifier, records.service, &records.store));
}

async fn poll_operations(Records { store, notifier, .. }: &Records) {
    let mut known = HashMap::new();
    let mut seen = None;
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        if notifier.subjects().is_empty() {
            continue;
        }
        // One query shows that nothing has changed, for any number of listeners. It precedes the list of subjects: the
        // stream of a later listener reads its operation first, and that read sees at least as much.
        let Ok(total) = log::total(store.reader()).await else { continue };
        if seen.replace(total) == Some(total) {
            continue;
        }
        let mut now = HashMap::new();
        for ids in notifier.subjects().chunks(POLL_BATCH) {
            match storage::revisions(store, ids).await {
                Ok(revisions) => now.extend(revisions),
                // The next tick queries again.
                Err(_) => seen = None,
            }
        }
        let changed = now.iter().filter(|(id, revision)| known.get(*id) != Some(*revision));
        changed.for_each(|(id, _)| notifier.notify(&Key::Subject(*id)));
        known = now;
    }
}

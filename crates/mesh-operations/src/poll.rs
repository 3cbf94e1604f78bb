//! Notices changes whose notification was lost, or that another process made.

use std::collections::HashMap;

use mesh_feed::log;
use mesh_feed::notifier::{POLL_BATCH, Key, poll_feeds, ticks};

use super::records::Records;
use super::storage;

/// Looks again and again. Never ends by itself.
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
        // Most of the time nothing has changed, and one query says so however many operations are followed. It comes
        // before the list of those: an operation that is followed later is read first, and that read sees as much.
        let Ok(total) = log::total(store.reader()).await else { continue };
        if seen.replace(total) == Some(total) {
            continue;
        }
        let mut now = HashMap::new();
        for ids in notifier.subjects().chunks(POLL_BATCH) {
            match storage::revisions(store, ids).await {
                Ok(revisions) => now.extend(revisions),
                // The next tick asks again.
                Err(_) => seen = None,
            }
        }
        let news = now.iter().filter(|(id, revision)| known.get(*id) != Some(*revision));
        news.for_each(|(id, _)| notifier.notify(&Key::Subject(*id)));
        known = now;
    }
}

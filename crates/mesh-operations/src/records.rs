//! The operations of one service, in its database: what all parts of this crate share.

use std::collections::HashSet;

use mesh_feed::notifier::{Key, Notifier};
use mesh_store::{Store, Transaction};

use super::row::Row;

/// Where the operations of a service are, and how their followers are notified. Cheap to clone.
#[derive(Clone)]
pub(super) struct Records {
    pub(super) service: &'static str,
    pub(super) store: Store,
    pub(super) notifier: Notifier,
}

impl Records {
    /// Notifies the followers of operations, once what has become of them is committed.
    pub(super) fn notify_followers(&self, tx: &mut Transaction, rows: &[&Row]) {
        let (notifier, service) = (self.notifier.clone(), self.service);
        let subjects: Vec<_> = rows.iter().map(|row| row.id).collect();
        let callers: HashSet<_> = rows.iter().map(|row| row.caller.clone()).collect();
        tx.after_commit(move || {
            subjects.into_iter().for_each(|id| notifier.notify(&Key::Subject(id)));
            callers.into_iter().for_each(|caller| notifier.notify(&Key::Feed(service, caller)));
        });
    }

    /// Notifies the workers of some kinds, once their work is committed.
    pub(super) fn notify_workers(&self, tx: &mut Transaction, kinds: HashSet<String>) {
        let (notifier, service) = (self.notifier.clone(), self.service);
        tx.after_commit(move || kinds.into_iter().for_each(|kind| notifier.notify(&Key::Work(service, kind))));
    }
}

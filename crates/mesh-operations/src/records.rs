//! The handle that the modules of this crate share: the service, its store and its notifier.

use std::collections::HashSet;

use mesh_feed::notifier::{Key, Notifier};
use mesh_rpc::call::Caller;
use mesh_store::{Error, Store, Transaction};
use uuid::Uuid;

use super::row::Row;
use super::storage;

/// The store of the operations of a service, and the notifier for their followers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Records {
    pub(super) service: &'static str,
    pub(super) store: Store,
    pub(super) notifier: Notifier,
}

impl Records {
    /// Reads an operation that `caller` sees.
    pub(super) async fn get(&self, caller: &Caller, id: Uuid) -> Result<Option<Row>, Error> {
        storage::get(&self.store, self.service, caller, id).await
    }

    /// Notifies the watchers and subscribers of operations after the commit, and the cleaners of those that ended
    /// without success.
    pub(super) fn notify_followers(&self, tx: &mut Transaction, rows: &[&Row]) {
        let (notifier, service) = (self.notifier.clone(), self.service);
        let ended: HashSet<_> = rows.iter().filter(|row| row.needs_clean_up()).map(|row| row.kind.clone()).collect();
        let subjects: Vec<_> = rows.iter().map(|row| (row.caller.clone(), row.id)).collect();
        let callers: HashSet<_> = rows.iter().map(|row| row.caller.clone()).collect();
        tx.after_commit(move || {
            subjects.into_iter().for_each(|(caller, id)| notifier.notify(&Key::Subject(caller, id)));
            ended.into_iter().for_each(|kind| notifier.notify(&Key::CleanUp(service, kind)));
            callers.into_iter().for_each(|caller| notifier.notify(&Key::Feed(service, caller)));
        });
    }

    /// Notifies the workers of some kinds after the commit.
    pub(super) fn notify_workers(&self, tx: &mut Transaction, kinds: HashSet<String>) {
        let (notifier, service) = (self.notifier.clone(), self.service);
        tx.after_commit(move || kinds.into_iter().for_each(|kind| notifier.notify(&Key::Work(service, kind))));
    }
}

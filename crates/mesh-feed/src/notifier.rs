//! Notifications: "read again", for the listeners of one key.
//!
//! Watchers listen to a subject, subscribers to a feed, workers to a kind of work. One shared key would wake each idle
//! stream at each commit.
//!
//! Guarantees:
//! - A notification carries nothing and may be lost. [`poll_feeds`] finds the change within 500 ms, as it finds the
//!   changes of other replicas (INV-11).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_rpc::call::Caller;
use mesh_store::Store;
use tokio::time::{Interval, MissedTickBehavior};
use uuid::Uuid;

use super::log;
use super::signal::Signal;

/// The interval of polls, and so the longest delay of a change whose notification was lost or that another replica
/// made.
const POLL: Duration = Duration::from_millis(500);
/// The most subjects or feeds of one query, far below the limit of parameters of a database.
pub const POLL_BATCH: usize = 500;

/// Delivers the notifications of one process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Notifier(Arc<Mutex<HashMap<Key, Arc<Signal>>>>);

/// What a listener listens to.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub enum Key {
    /// One subject of a caller.
    Subject(Caller, Uuid),
    /// All subjects of a caller at a service.
    Feed(&'static str, Caller),
    /// The events of a service.
    Events(&'static str),
    /// Work of one kind for a service.
    Work(&'static str, String),
    /// Clean-ups of one kind of work for a service.
    CleanUp(&'static str, String),
}

/// Receives the notifications of one key until it is dropped.
pub struct Listener {
    key: Key,
    notifier: Notifier,
    signal: Arc<Signal>,
    /// The notifications before the last [`reset`](Self::reset).
    seen: u64,
}

impl Notifier {
    /// Notifies all listeners of a key.
    pub fn notify(&self, key: &Key) {
        if let Some(signal) = self.lock().get(key) {
            signal.notify();
        }
    }

    /// Returns a listener of a key.
    pub fn listen(&self, key: Key) -> Listener {
        let signal = Arc::clone(self.lock().entry(key.clone()).or_default());
        let seen = signal.count();
        Listener { key, notifier: self.clone(), signal, seen }
    }

    /// The subjects that have a listener, by their caller.
    pub fn subjects(&self) -> HashMap<Caller, Vec<Uuid>> {
        let mut subjects = HashMap::<_, Vec<_>>::new();
        for key in self.lock().keys() {
            if let Key::Subject(caller, id) = key {
                subjects.entry(caller.clone()).or_default().push(*id);
            }
        }
        subjects
    }

    /// The callers whose feeds at a service have a listener.
    fn callers(&self, service: &'static str) -> Vec<Caller> {
        let signals = self.lock();
        let callers = signals.keys().filter_map(|key| match key {
            Key::Feed(of, caller) if *of == service => Some(caller.clone()),
            _ => None,
        });
        callers.collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Signal>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// Clears the notifications up to now. Call this before a read: a change after the read then notifies.
    pub fn reset(&mut self) {
        self.seen = self.signal.count();
    }

    /// Waits for a notification since [`reset`](Self::reset).
    pub async fn notified(&mut self) {
        self.signal.changed(self.seen).await;
        self.reset();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut signals = self.notifier.lock();
        // The map and this listener have it, and no other one.
        if Arc::strong_count(&self.signal) <= 2 {
            signals.remove(&self.key);
        }
    }
}

/// The ticks of a poll, one each 500 ms.
pub fn ticks() -> Interval {
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Polls the feeds that have a listener, and notifies the listeners of those that changed. Never ends by itself.
pub async fn poll_feeds(notifier: &Notifier, service: &'static str, store: &Store) {
    let mut known = HashMap::new();
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        let followed = notifier.callers(service);
        let mut now = HashMap::new();
        for callers in followed.chunks(POLL_BATCH) {
            match log::last(store.reader(), callers).await {
                Ok(last) => now.extend(last),
                // A feed that is missing here is notified once too often at the next tick, which is harmless.
                Err(_) => break,
            }
        }
        let changed = now.iter().filter(|(caller, last)| known.get(*caller) != Some(*last));
        changed.for_each(|(caller, _)| notifier.notify(&Key::Feed(service, caller.clone())));
        known = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn listener_receives_a_notification_after_reset() {
        let notifier = Notifier::default();
        let key = Key::Subject(Caller::default(), Uuid::now_v7());
        let mut listener = notifier.listen(key.clone());
        listener.reset();
        notifier.notify(&key);
        listener.notified().await;
    }

    #[tokio::test(start_paused = true)]
    async fn listener_ignores_notifications_of_other_keys() {
        let notifier = Notifier::default();
        let mut listener = notifier.listen(Key::Subject(Caller::default(), Uuid::now_v7()));
        listener.reset();
        notifier.notify(&Key::Subject(Caller::default(), Uuid::now_v7()));
        assert!(tokio::time::timeout(Duration::from_secs(60), listener.notified()).await.is_err());
    }

    #[test]
    fn listener_removes_its_key_when_it_is_dropped() {
        let notifier = Notifier::default();
        let key = Key::Subject(Caller::default(), Uuid::now_v7());
        let (one, two) = (notifier.listen(key.clone()), notifier.listen(key));
        drop(one);
        assert_eq!(notifier.lock().len(), 1);
        drop(two);
        assert_eq!(notifier.lock().len(), 0);
    }
}

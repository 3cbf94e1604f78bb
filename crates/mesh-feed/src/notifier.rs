//! Notifications: "look again", to those that follow something, and to no others.
//!
//! They are keyed by subject for watchers, by feed for subscribers and by kind for workers: one shared channel would wake
//! each idle stream at each commit. A notification carries nothing and may be lost: [`poll_feeds`] looks now and then at
//! the feeds that are followed, which is also how a change by another replica is noticed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_rpc::call::Caller;
use mesh_store::Store;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};
use uuid::Uuid;

use super::log;

/// The delay after which a change is noticed whose notification was lost, or that another replica made.
const POLL: Duration = Duration::from_millis(500);
/// The subjects or feeds of one query: far fewer than a database takes parameters.
pub const ASKED: usize = 500;

/// The notifications of one process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Notifier(Arc<Mutex<HashMap<Key, watch::Sender<()>>>>);

/// What is followed.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub enum Key {
    /// One subject.
    Subject(Uuid),
    /// All that a caller has at a service.
    Feed(&'static str, Caller),
    /// Work of one kind for a service.
    Work(&'static str, String),
}

/// Is notified of one key until it is dropped.
pub struct Listener {
    key: Key,
    notifier: Notifier,
    receiver: watch::Receiver<()>,
}

impl Notifier {
    /// Notifies all that listen to a key.
    pub fn notify(&self, key: &Key) {
        if let Some(sender) = self.lock().get(key) {
            sender.send_replace(());
        }
    }

    /// Begins to listen to a key.
    pub fn listen(&self, key: Key) -> Listener {
        let receiver = self.lock().entry(key.clone()).or_default().subscribe();
        Listener { key, notifier: self.clone(), receiver }
    }

    /// The subjects that are listened to.
    pub fn subjects(&self) -> Vec<Uuid> {
        let senders = self.lock();
        senders.keys().filter_map(|key| if let Key::Subject(id) = key { Some(*id) } else { None }).collect()
    }

    /// The callers whose feeds at a service are listened to.
    fn callers(&self, service: &'static str) -> Vec<Caller> {
        let senders = self.lock();
        let callers = senders.keys().filter_map(|key| match key {
            Key::Feed(of, caller) if *of == service => Some(caller.clone()),
            _ => None,
        });
        callers.collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// Forgets the notifications up to now. Call this before looking: a later change notifies.
    pub fn reset(&mut self) {
        self.receiver.mark_unchanged();
    }

    /// Whether a notification came since [`reset`](Self::reset).
    pub fn is_notified(&self) -> bool {
        // The sender lives as long as its listeners.
        self.receiver.has_changed().unwrap_or(true)
    }

    /// Waits for a notification since [`reset`](Self::reset).
    pub async fn notified(&mut self) {
        // The sender lives as long as its listeners.
        let _ = self.receiver.changed().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut senders = self.notifier.lock();
        if senders.get(&self.key).is_some_and(|sender| sender.receiver_count() <= 1) {
            senders.remove(&self.key);
        }
    }
}

/// The ticks at which a poll looks.
pub fn ticks() -> Interval {
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Notifies of changes of feeds whose notification was lost. Never ends by itself.
pub async fn poll_feeds(notifier: &Notifier, service: &'static str, store: &Store) {
    let mut known = HashMap::new();
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        let followed = notifier.callers(service);
        let mut now = HashMap::new();
        for callers in followed.chunks(ASKED) {
            match log::last(store.reader(), callers).await {
                Ok(last) => now.extend(last),
                // A feed that is unknown at the next tick is notified of once too often.
                Err(_) => break,
            }
        }
        let news = now.iter().filter(|(caller, last)| known.get(*caller) != Some(*last));
        news.for_each(|(caller, _)| notifier.notify(&Key::Feed(service, caller.clone())));
        known = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn notification_after_reset_wakes() {
        let notifier = Notifier::default();
        let key = Key::Subject(Uuid::now_v7());
        let mut listener = notifier.listen(key.clone());
        listener.reset();
        notifier.notify(&key);
        listener.notified().await;
    }

    #[tokio::test(start_paused = true)]
    async fn notification_of_another_key_does_not_wake() {
        let notifier = Notifier::default();
        let mut listener = notifier.listen(Key::Subject(Uuid::now_v7()));
        listener.reset();
        notifier.notify(&Key::Subject(Uuid::now_v7()));
        assert!(tokio::time::timeout(Duration::from_secs(60), listener.notified()).await.is_err());
    }

    #[test]
    fn listener_leaves_nothing_when_it_is_dropped() {
        let notifier = Notifier::default();
        let key = Key::Subject(Uuid::now_v7());
        let (one, two) = (notifier.listen(key.clone()), notifier.listen(key));
        drop(one);
        assert_eq!(notifier.lock().len(), 1);
        drop(two);
        assert_eq!(notifier.lock().len(), 0);
    }
}

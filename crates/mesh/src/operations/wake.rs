//! Wake-ups: "look again", to whoever is concerned and to nobody else.
//!
//! They are keyed, by operation for watchers, by owner for subscribers and by kind for workers: one shared channel
//! would wake every idle stream at every commit. They carry nothing and may be lost: [`Wakes::poll`] looks now and then
//! at what is followed, for all watchers at once and for all feeds, which is also how a change by another replica is
//! noticed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use uuid::Uuid;

use super::{Owner, feed, storage};
use crate::store::Store;

/// How late a change is noticed whose wake-up was lost, or that another replica made.
const POLL: Duration = Duration::from_millis(500);
/// How many operations or owners one query asks for: far fewer than a database takes parameters.
const ASKED: usize = 500;

/// The wake-ups of one process. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Wakes(Arc<Mutex<HashMap<Key, watch::Sender<()>>>>);

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
enum Key {
    Operation(Uuid),
    Feed(&'static str, String),
    Work(&'static str, String),
}

/// Somebody who wants to be woken.
pub(crate) struct Sleeper {
    key: Key,
    wakes: Wakes,
    receiver: watch::Receiver<()>,
}

impl Wakes {
    /// Wakes who follows an operation.
    pub(crate) fn operation(&self, id: Uuid) {
        self.wake(&Key::Operation(id));
    }

    /// Wakes who follows all that an owner has at a service.
    pub(crate) fn feed(&self, service: &'static str, owner: &Owner) {
        self.wake(&Key::Feed(service, owner.0.clone()));
    }

    /// Wakes who works on a kind for a service.
    pub(crate) fn work(&self, service: &'static str, kind: &str) {
        self.wake(&Key::Work(service, kind.to_owned()));
    }

    pub(crate) fn on_operation(&self, id: Uuid) -> Sleeper {
        self.sleeper(Key::Operation(id))
    }

    pub(crate) fn on_feed(&self, service: &'static str, owner: &Owner) -> Sleeper {
        self.sleeper(Key::Feed(service, owner.0.clone()))
    }

    pub(crate) fn on_work(&self, service: &'static str, kind: &str) -> Sleeper {
        self.sleeper(Key::Work(service, kind.to_owned()))
    }

    /// Looks again and again for changes at a service that nobody was woken for. Never ends by itself.
    pub(crate) async fn poll(&self, service: &'static str, store: &Store) {
        tokio::join!(self.poll_operations(store), self.poll_feeds(service, store));
    }

    async fn poll_operations(&self, store: &Store) {
        let mut known = HashMap::new();
        let mut told = None;
        let mut ticks = ticks();
        loop {
            ticks.tick().await;
            if !self.lock().keys().any(|key| matches!(key, Key::Operation(_))) {
                continue;
            }
            // Most of the time nothing has changed, and that costs one query however many are followed. Asked before
            // who follows: whoever comes later begins with a look that sees as much.
            let Ok(count) = feed::told(store.reader()).await else { continue };
            if told.replace(count) == Some(count) {
                continue;
            }
            let mut now = HashMap::new();
            for ids in self.followed_operations().chunks(ASKED) {
                match storage::revisions(store, ids).await {
                    Ok(revisions) => now.extend(revisions),
                    // Not for long, and it is asked again.
                    Err(_) => told = None,
                }
            }
            let news = now.iter().filter(|(id, revision)| known.get(*id) != Some(*revision));
            news.for_each(|(id, _)| self.operation(*id));
            known = now;
        }
    }

    async fn poll_feeds(&self, service: &'static str, store: &Store) {
        let mut known = HashMap::new();
        let mut ticks = ticks();
        loop {
            ticks.tick().await;
            let followed = self.followed_owners(service);
            let mut now = HashMap::new();
            for owners in followed.chunks(ASKED) {
                match feed::last(store.reader(), owners).await {
                    Ok(last) => now.extend(last),
                    // Whoever is not known at the next tick is woken once too often.
                    Err(_) => break,
                }
            }
            let news = now.iter().filter(|(owner, last)| known.get(*owner) != Some(*last));
            news.for_each(|(owner, _)| self.wake(&Key::Feed(service, owner.clone())));
            known = now;
        }
    }

    fn followed_operations(&self) -> Vec<Uuid> {
        let senders = self.lock();
        let ids = senders.keys().filter_map(|key| if let Key::Operation(id) = key { Some(*id) } else { None });
        ids.collect()
    }

    fn followed_owners(&self, service: &'static str) -> Vec<String> {
        let senders = self.lock();
        let owners = senders.keys().filter_map(|key| match key {
            Key::Feed(of, owner) if *of == service => Some(owner.clone()),
            _ => None,
        });
        owners.collect()
    }

    fn wake(&self, key: &Key) {
        if let Some(sender) = self.lock().get(key) {
            sender.send_replace(());
        }
    }

    fn sleeper(&self, key: Key) -> Sleeper {
        let receiver = self.lock().entry(key.clone()).or_default().subscribe();
        Sleeper { key, wakes: self.clone(), receiver }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(POLL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

impl Sleeper {
    /// Call this before looking: what happens from here on will wake.
    pub(crate) fn look(&mut self) {
        self.receiver.mark_unchanged();
    }

    /// Whether something has happened since [`look`](Self::look).
    pub(crate) fn is_woken(&self) -> bool {
        // The sender lives as long as anybody listens.
        self.receiver.has_changed().unwrap_or(true)
    }

    /// Until something has happened since [`look`](Self::look).
    pub(crate) async fn woken(&mut self) {
        // The sender lives as long as anybody listens.
        let _ = self.receiver.changed().await;
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let mut senders = self.wakes.lock();
        if senders.get(&self.key).is_some_and(|sender| sender.receiver_count() <= 1) {
            senders.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_happens_after_looking_wakes() {
        let wakes = Wakes::default();
        let id = Uuid::now_v7();
        let mut sleeper = wakes.on_operation(id);
        sleeper.look();
        wakes.operation(id);
        sleeper.woken().await;
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_woken_for_others() {
        let wakes = Wakes::default();
        let mut sleeper = wakes.on_operation(Uuid::now_v7());
        sleeper.look();
        wakes.operation(Uuid::now_v7());
        assert!(tokio::time::timeout(Duration::from_secs(60), sleeper.woken()).await.is_err());
    }

    #[test]
    fn nothing_is_left_of_who_stopped_listening() {
        let wakes = Wakes::default();
        let id = Uuid::now_v7();
        let (one, two) = (wakes.on_operation(id), wakes.on_operation(id));
        drop(one);
        assert_eq!(wakes.lock().len(), 1);
        drop(two);
        assert_eq!(wakes.lock().len(), 0);
    }
}

//! Reads a caller's feed once for all streams that follow it.
//!
//! Streams that are up to date need the same next page. The first one reads it; the others find it among the recent
//! rows, or find that there is no new row. A stream that is far behind reads for itself.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::log::{self, Event, PAGE, Payload};
use super::notifier::{Key, Listener, Notifier};
use super::stream::finish;
use mesh_rpc::call::Caller;
use mesh_store::{Error, Store};

/// The most recent rows that are kept in memory, in number and in bytes.
const RECENT: usize = 1024;
const RECENT_BYTES: usize = 1024 * 1024;

/// The readers of one service, one for each feed that a stream follows. Cheap to clone.
pub struct Readers<T>(Arc<Mutex<HashMap<Caller, Weak<Reader<T>>>>>);

impl<T> Clone for Readers<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Readers<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// The rows behind a position.
pub enum Tail<T> {
    /// Events without a hole, and whether there may be more behind them.
    Events(Vec<Arc<Event<T>>>, bool),
    /// Rows behind the position were deleted.
    Gone,
}

impl<T> Readers<T> {
    /// The reader of a caller's feed, shared by its streams.
    pub fn of(&self, caller: &Caller, service: &'static str, store: &Store, notifier: &Notifier) -> Arc<Reader<T>> {
        let mut readers = self.lock();
        if let Some(reader) = readers.get(caller).and_then(Weak::upgrade) {
            return reader;
        }
        let listener = notifier.listen(Key::Feed(service, caller.clone()));
        let recent = Recent { before: 0, events: VecDeque::new(), bytes: 0, complete: false, listener };
        let reader = Arc::new(Reader {
            caller: caller.clone(),
            store: store.clone(),
            readers: self.clone(),
            query_lock: tokio::sync::Mutex::default(),
            recent: Mutex::new(recent),
        });
        readers.insert(caller.clone(), Arc::downgrade(&reader));
        reader
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Caller, Weak<Reader<T>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads one feed, as long as a stream follows it.
pub struct Reader<T> {
    caller: Caller,
    store: Store,
    readers: Readers<T>,
    /// The holder queries the database. The streams that wait for it find the rows in `recent`.
    query_lock: tokio::sync::Mutex<()>,
    recent: Mutex<Recent<T>>,
}

impl<T: Payload> Reader<T> {
    /// The rows behind a position. Reset the listener of the stream before.
    ///
    /// # Errors
    ///
    /// As for any statement; the read may be retried.
    pub async fn after(self: &Arc<Self>, position: i64) -> Result<Tail<T>, Error> {
        let known = self.recent().after(position);
        match known {
            Some(page) => Ok(page),
            // In a task: a stream that is no longer polled must not hold the lock.
            None => {
                let reader = Arc::clone(self);
                finish(async move { reader.read(position).await }).await
            }
        }
    }

    async fn read(&self, position: i64) -> Result<Tail<T>, Error> {
        if position < self.recent().before {
            let events = self.query(position).await?;
            // Rows behind this position existed before, so they were deleted.
            return Ok(if events.is_empty() { Tail::Gone } else { tail(position, &events, true) });
        }
        let _lock = self.query_lock.lock().await;
        {
            let mut recent = self.recent();
            if let Some(page) = recent.after(position) {
                return Ok(page);
            }
            recent.begin_read();
        }
        let events = self.query(position).await?;
        if events.is_empty() && !log::extent(self.store.reader(), &self.caller).await?.can_resume_from(position) {
            return Ok(Tail::Gone);
        }
        let more = events.len() == PAGE;
        let tail = tail(position, &events, more);
        if let Tail::Events(..) = tail {
            self.recent().add(position, events);
        }
        Ok(tail)
    }

    async fn query(&self, position: i64) -> Result<Vec<Arc<Event<T>>>, Error> {
        let events = log::page(self.store.reader(), &self.caller, position).await?;
        Ok(events.into_iter().map(Arc::new).collect())
    }

    fn recent(&self) -> MutexGuard<'_, Recent<T>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        let mut readers = self.readers.lock();
        // A new reader may have taken its place since the last stream dropped this one.
        if readers.get(&self.caller).is_some_and(|reader| reader.strong_count() == 0) {
            readers.remove(&self.caller);
        }
    }
}

fn tail<T>(position: i64, events: &[Arc<Event<T>>], more: bool) -> Tail<T> {
    match events.first() {
        Some(first) if first.position != position + 1 => Tail::Gone,
        _ => Tail::Events(events.to_vec(), more),
    }
}

/// The most recent rows of a feed, kept in memory.
struct Recent<T> {
    /// The position before the first of `events`, which have no holes.
    before: i64,
    events: VecDeque<Arc<Event<T>>>,
    bytes: usize,
    /// Whether the last read found no row behind the last of `events`.
    complete: bool,
    listener: Listener,
}

impl<T> Recent<T> {
    /// Call this before a read. Until the rows are added, no stream learns that there are none: the notification that
    /// started this read is also theirs.
    fn begin_read(&mut self) {
        self.complete = false;
        self.listener.reset();
    }

    /// The rows behind a position, if memory has them.
    fn after(&self, position: i64) -> Option<Tail<T>> {
        let skip = usize::try_from(position.checked_sub(self.before)?).ok()?;
        let left = self.events.len().checked_sub(skip)?;
        let complete = self.complete && !self.listener.is_notified();
        let known = left > 0 || complete;
        known.then(|| {
            let events = self.events.iter().skip(skip).take(PAGE).cloned().collect();
            Tail::Events(events, left > PAGE || !complete)
        })
    }

    /// Keeps the rows that were read behind a position, and drops rows that do not connect to them. It never goes back:
    /// a stream that is far behind reads for itself.
    fn add(&mut self, position: i64, events: Vec<Arc<Event<T>>>) {
        let last = self.before + i64::try_from(self.events.len()).unwrap_or(i64::MAX);
        if position < last {
            return;
        }
        if position > last {
            (self.before, self.bytes) = (position, 0);
            self.events.clear();
        }
        self.complete = events.len() < PAGE;
        self.bytes += events.iter().map(|event| event.size).sum::<usize>();
        self.events.extend(events);
        while self.events.len() > RECENT || self.bytes > RECENT_BYTES {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.size;
            self.before += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(positions: std::ops::RangeInclusive<i64>) -> Vec<Arc<Event<String>>> {
        let event =
            |position| Event { position, revision: 1, change: 0, kind: String::new(), value: String::new(), size: 1 };
        positions.map(|position| Arc::new(event(position))).collect()
    }

    /// Empty recent rows, and a function that notifies them.
    fn recent() -> (Recent<String>, impl Fn()) {
        let (notifier, key) = (Notifier::default(), Key::Feed("work", Caller::default()));
        let mut listener = notifier.listen(key.clone());
        listener.reset();
        let recent = Recent { before: 0, events: VecDeque::new(), bytes: 0, complete: false, listener };
        (recent, move || notifier.notify(&key))
    }

    /// The positions behind one that memory knows, and whether there may be more.
    fn known(recent: &Recent<String>, position: i64) -> Option<(Vec<i64>, bool)> {
        match recent.after(position)? {
            Tail::Events(events, more) => Some((events.iter().map(|event| event.position).collect(), more)),
            Tail::Gone => panic!("gone"),
        }
    }

    #[test]
    fn recent_rows_serve_other_streams_until_a_notification() {
        let (mut recent, notify) = recent();
        assert_eq!(known(&recent, 10), None);
        recent.add(10, events(11..=13));
        assert_eq!(known(&recent, 10), Some((vec![11, 12, 13], false)));
        assert_eq!(known(&recent, 12), Some((vec![13], false)));
        assert_eq!(known(&recent, 13), Some((vec![], false)), "the absence of rows is known, too");
        assert_eq!((known(&recent, 9), known(&recent, 14)), (None, None));

        notify();
        assert_eq!(known(&recent, 12), Some((vec![13], true)));
        assert_eq!(known(&recent, 13), None);
        recent.begin_read();
        assert_eq!(known(&recent, 13), None, "a read is under way");
        recent.add(13, events(14..=14));
        assert_eq!(known(&recent, 12), Some((vec![13, 14], false)));
    }

    #[test]
    fn recent_rows_are_bounded_and_never_go_back() {
        let (mut recent, _) = recent();
        for position in (0..10_000).step_by(PAGE) {
            let behind = position + i64::try_from(PAGE).unwrap();
            recent.add(position, events(position + 1..=behind));
        }
        assert_eq!(recent.events.len(), RECENT);
        let begin = recent.before;
        recent.add(3, events(4..=7));
        assert_eq!((recent.before, known(&recent, 3)), (begin, None));

        recent.add(20_000, Vec::new());
        assert_eq!(known(&recent, 20_000), Some((vec![], false)));
        assert_eq!(recent.bytes, 0);
    }
}

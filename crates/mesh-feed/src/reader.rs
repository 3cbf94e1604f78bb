//! Reads what streams follow, once for all of them: the history of a subject, or the feed of a caller.
//!
//! A task reads the new events after each notification, keeps the most recent ones, and wakes the streams. They send
//! them as they are, encoded already. A stream that is behind the kept events, since it resumes or its client is slow,
//! reads for itself until it has caught up.
//!
//! Guarantees:
//! - A stream waits only if it has all events that the task has read. A later event has notified the task, and the read
//!   that finds it wakes the stream.
//! - A stream holds up neither the task nor another stream.
//!
//! See: docs/decisions/0030-one-encoding-for-all-streams.md

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use mesh_store::Error;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::log::PAGE;
use super::notifier::{Key, Listener, Notifier};
use super::recent::{Event, Recent};
use super::signal::Signal;
use super::stream::finish;

/// The shortest time between two reads: events that follow closely are sent together, a single event at once.
const READ_INTERVAL: Duration = Duration::from_millis(5);
/// The same for each stream that the last read woke, if that is longer: what it costs to wake a stream is shared by
/// more events the more streams there are.
const STREAM_SHARE: Duration = Duration::from_micros(100);
const LONGEST_INTERVAL: Duration = Duration::from_millis(100);

/// The source of the events that streams follow.
pub trait Source: Send + Sync + 'static {
    /// The most bytes of recent events that are kept in memory. Those of the last read are kept in any case.
    const RECENT_BYTES: usize;

    /// The events behind a number, in order, [`PAGE`] at most.
    fn page(&self, number: i64) -> impl Future<Output = Result<Vec<Event>, Error>> + Send;

    /// Whether no event was deleted behind a number that has no event behind it.
    fn ends_at(&self, number: i64) -> impl Future<Output = Result<bool, Error>> + Send;
}

/// The readers of one kind of source, one for each key that a stream follows. Cheap to clone.
pub struct Readers<S>(Arc<Mutex<HashMap<Key, Weak<Reader<S>>>>>);

impl<S> Clone for Readers<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Default for Readers<S> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<S: Source> Readers<S> {
    /// The tail of what a key notifies of, behind `number`, for one stream. The streams of a key share its reader.
    /// `last` is the number of the last event, or one shortly before.
    pub fn tail(&self, key: Key, source: S, number: i64, last: i64, notifier: &Notifier) -> Tail<S> {
        let mut readers = self.lock();
        let reader = readers.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            let listener = notifier.listen(key.clone());
            let shared = Arc::new(Shared { source, recent: Mutex::new(Recent::behind(last)), read: Signal::default() });
            let task = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&shared).follow(listener)));
            let reader = Arc::new(Reader { shared, key: key.clone(), readers: self.clone(), _task: task });
            readers.insert(key, Arc::downgrade(&reader));
            reader
        });
        Tail { reader, number, seen: 0 }
    }
}

impl<S> Readers<S> {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Weak<Reader<S>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads for the streams of one key, as long as there is one.
struct Reader<S> {
    shared: Arc<Shared<S>>,
    key: Key,
    readers: Readers<S>,
    _task: AbortOnDropHandle<()>,
}

impl<S> Drop for Reader<S> {
    fn drop(&mut self) {
        let mut readers = self.readers.lock();
        // A new reader may have taken its place since the last stream dropped this one.
        if readers.get(&self.key).is_some_and(|reader| reader.strong_count() == 0) {
            readers.remove(&self.key);
        }
    }
}

/// The place of one stream in what it follows.
pub struct Tail<S> {
    reader: Arc<Reader<S>>,
    /// The number of the last event that the stream has.
    pub number: i64,
    /// The reads of the task before the last [`next`](Self::next).
    seen: u64,
}

/// The events behind a number.
pub enum Page {
    /// Events without a hole, and whether there may be more behind them.
    Events(Vec<Arc<Event>>, bool),
    /// The next event was deleted.
    Gone,
}

impl<S: Source> Tail<S> {
    /// The source of the events.
    pub fn source(&self) -> &S {
        &self.reader.shared.source
    }

    /// The events behind [`number`](Self::number), which it leaves as it is.
    ///
    /// # Errors
    ///
    /// As for any statement; the read may be retried.
    pub async fn next(&mut self) -> Result<Page, Error> {
        self.seen = self.reader.shared.read.count();
        let (shared, number) = (&self.reader.shared, self.number);
        if let Some((events, more)) = shared.recent().after(number) {
            return Ok(Page::Events(events, more));
        }
        let reading = Arc::clone(shared);
        let events = finish(async move { reading.page(number).await }).await?;
        Ok(events.map_or(Page::Gone, |events| {
            let more = events.len() == PAGE;
            Page::Events(events, more)
        }))
    }

    /// Waits until there may be more events than the last [`next`](Self::next) has found.
    pub async fn more(&self) {
        self.reader.shared.read.changed(self.seen).await;
    }

    /// Frees the memory of recent events. A stream that has not sent them yet reads for itself.
    pub fn forget(&self) {
        self.reader.shared.recent().forget();
    }
}

/// What the task of a reader shares with the streams.
struct Shared<S> {
    source: S,
    recent: Mutex<Recent>,
    /// The reads of the task.
    read: Signal,
}

impl<S: Source> Shared<S> {
    /// Reads after each notification. Never ends by itself.
    async fn follow(self: Arc<Self>, mut listener: Listener) {
        loop {
            // Before the read: a change after it notifies again.
            listener.reset();
            let begin = Instant::now();
            // In a box, so that an idle task is small.
            let (more, woken) = Box::pin(self.read()).await;
            if !more {
                listener.notified().await;
                let share = STREAM_SHARE.saturating_mul(u32::try_from(woken).unwrap_or(u32::MAX));
                sleep_until(begin + share.clamp(READ_INTERVAL, LONGEST_INTERVAL)).await;
            }
        }
    }

    /// Reads new events, and wakes the streams. Returns whether there may be more, and the number of streams.
    async fn read(&self) -> (bool, usize) {
        let number = self.recent().last();
        let page = self.page(number).await;
        let more = {
            let mut recent = self.recent();
            match page {
                Ok(Some(events)) if events.is_empty() && !recent.failed() => return (false, 0),
                Ok(Some(events)) => recent.add(number, events, S::RECENT_BYTES),
                // The streams find out by reads of their own.
                Ok(None) | Err(_) => {
                    recent.fail();
                    false
                }
            }
        };
        (more, self.read.notify_in_turn().await)
    }

    /// The events behind a number; `None` if the next one was deleted.
    async fn page(&self, number: i64) -> Result<Option<Vec<Arc<Event>>>, Error> {
        let last = self.recent().last();
        let events = self.source.page(number).await?;
        let whole = match events.first() {
            Some(first) => first.number == number + 1,
            None => number >= last && self.source.ends_at(number).await?,
        };
        Ok(whole.then(|| events.into_iter().map(Arc::new).collect()))
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

    use mesh_rpc::call::Caller;
    use tokio::time::{sleep, timeout};
    use uuid::Uuid;

    use super::*;

    /// The time of a read.
    const READ: Duration = Duration::from_millis(1);
    const FRAME: usize = 100;
    /// The size of twenty events.
    const RECENT_BYTES: usize = 20 * (FRAME + size_of::<Event>());

    /// A history in memory, which counts the reads of it.
    #[derive(Default)]
    struct History {
        last: AtomicI64,
        deleted: AtomicI64,
        fails: AtomicBool,
        reads: AtomicUsize,
    }

    impl Source for Arc<History> {
        const RECENT_BYTES: usize = RECENT_BYTES;

        async fn page(&self, number: i64) -> Result<Vec<Event>, Error> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let last = self.last.load(Ordering::Relaxed);
            sleep(READ).await;
            if self.fails.load(Ordering::Relaxed) {
                return Err(sqlx::Error::WorkerCrashed.into());
            }
            let first = number.max(self.deleted.load(Ordering::Relaxed)) + 1;
            let event =
                |number| Event { number, change: 0, kind: String::new(), done: false, frame: vec![7; FRAME].into() };
            Ok((first..=last).take(PAGE).map(event).collect())
        }

        async fn ends_at(&self, number: i64) -> Result<bool, Error> {
            Ok(self.last.load(Ordering::Relaxed) == number)
        }
    }

    #[derive(Default)]
    struct Followed {
        history: Arc<History>,
        notifier: Notifier,
        readers: Readers<Arc<History>>,
        id: Uuid,
    }

    impl Followed {
        fn key(&self) -> Key {
            Key::Subject(Caller::default(), self.id)
        }

        /// The tail of a new stream.
        fn tail(&self, number: i64) -> Tail<Arc<History>> {
            let last = self.history.last.load(Ordering::Relaxed);
            self.readers.tail(self.key(), Arc::clone(&self.history), number, last, &self.notifier)
        }

        fn write(&self, events: i64) {
            self.history.last.fetch_add(events, Ordering::Relaxed);
            self.notifier.notify(&self.key());
        }

        /// Lets the reader and all streams come to rest, and returns the number of reads since the last call.
        async fn reads(&self) -> usize {
            sleep(Duration::from_secs(1)).await;
            self.history.reads.swap(0, Ordering::Relaxed)
        }
    }

    /// Follows until an event, and checks that none is missing and none comes twice.
    async fn follow(tail: &mut Tail<Arc<History>>, until: i64) {
        while tail.number < until {
            let Page::Events(events, more) = tail.next().await.unwrap() else { panic!("deleted") };
            for event in events {
                assert_eq!(event.number, tail.number + 1);
                tail.number = event.number;
            }
            if !more && tail.number < until {
                let woken = timeout(Duration::from_secs(60), tail.more()).await;
                assert!(woken.is_ok(), "a stream that is behind waits");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reader_reads_once_for_all_streams() {
        let followed = Followed::default();
        let streams: Vec<_> = (0..256).map(|_| followed.tail(0)).collect();
        let streams = streams.into_iter().map(|mut tail| {
            tokio::spawn(async move {
                follow(&mut tail, 50).await;
                tail
            })
        });
        let streams: Vec<_> = streams.collect();
        assert_eq!(followed.reads().await, 1, "the first read, for all");
        for _ in 0..10 {
            followed.write(1);
            assert_eq!(followed.reads().await, 1);
        }
        // Events that follow closely are read together.
        for _ in 0..40 {
            followed.write(1);
            sleep(Duration::from_millis(1)).await;
        }
        let reads = followed.reads().await;
        assert!((2..=5).contains(&reads), "{reads}");
        for stream in streams {
            drop(stream.await.unwrap());
        }
        followed.reads().await;
        assert!(followed.readers.lock().is_empty() && followed.notifier.subjects().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn stream_that_starts_in_the_middle_catches_up_by_reads_of_its_own() {
        let followed = Followed::default();
        followed.write(1_000);
        let (mut current, mut behind) = (followed.tail(1_000), followed.tail(300));
        assert_eq!(followed.reads().await, 1);
        follow(&mut behind, 1_000).await;
        assert_eq!(followed.reads().await, 700_usize.div_ceil(PAGE));

        followed.write(1);
        tokio::join!(follow(&mut current, 1_001), follow(&mut behind, 1_001));
        assert_eq!(followed.reads().await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_stream_holds_up_no_other_and_little_memory() {
        let followed = Followed::default();
        let (mut slow, mut quick) = (followed.tail(0), followed.tail(0));
        assert_eq!(followed.reads().await, 1);
        for number in 1..=500 {
            followed.write(1);
            follow(&mut quick, number).await;
        }
        assert_eq!(followed.reads().await, 500);
        let kept = |tail: &Tail<Arc<History>>| tail.reader.shared.recent().bytes();
        assert!(kept(&quick) <= RECENT_BYTES);
        follow(&mut slow, 500).await;
        assert_eq!(followed.reads().await, 480_usize.div_ceil(PAGE), "the last events are kept");

        slow.forget();
        assert_eq!(kept(&slow), 0);
        followed.write(1);
        tokio::join!(follow(&mut slow, 501), follow(&mut quick, 501));
        assert_eq!(followed.reads().await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn failed_read_loses_no_event() {
        let followed = Followed::default();
        let (mut one, mut other) = (followed.tail(0), followed.tail(0));
        followed.reads().await;
        followed.history.fails.store(true, Ordering::Relaxed);
        let waiting = tokio::spawn(async move {
            assert!(matches!(one.next().await, Ok(Page::Events(..))));
            one.more().await;
            assert!(one.next().await.is_err(), "the stream learns of the failure");
            one
        });
        sleep(READ).await;
        followed.write(1);
        let mut one = waiting.await.unwrap();

        // The stream gets by itself what the reader could not read, and then from the reader again.
        followed.history.fails.store(false, Ordering::Relaxed);
        follow(&mut one, 1).await;
        followed.write(1);
        tokio::join!(follow(&mut one, 2), follow(&mut other, 2));
        followed.reads().await;
        followed.write(1);
        tokio::join!(follow(&mut one, 3), follow(&mut other, 3));
        assert_eq!(followed.reads().await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn deleted_events_are_reported_and_the_later_ones_follow() {
        let followed = Followed::default();
        let (mut one, mut other) = (followed.tail(0), followed.tail(0));
        followed.reads().await;
        followed.history.deleted.store(7, Ordering::Relaxed);
        followed.write(10);
        followed.reads().await;
        for stream in [&mut one, &mut other] {
            assert!(matches!(stream.next().await, Ok(Page::Gone)));
            // A snapshot.
            stream.number = 10;
            assert!(matches!(stream.next().await, Ok(Page::Events(events, false)) if events.is_empty()));
        }
        followed.reads().await;
        followed.write(1);
        assert_eq!(followed.reads().await, 1);
        tokio::join!(follow(&mut one, 11), follow(&mut other, 11));
        assert_eq!(followed.reads().await, 0, "the reader has it");
    }
}

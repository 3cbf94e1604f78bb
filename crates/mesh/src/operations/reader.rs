//! Reads an owner's feed for all streams that follow it: once, not once for each of them.
//!
//! Streams that are up to date all want the same next page. The first to ask reads it, and the others find it among the
//! recent ones, or find that there is nothing new since. A stream that is far behind reads for itself, and catches up.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Owner;
use super::feed::{self, Event};
use super::stream::{PAGE, finish};
use super::wake::{Sleeper, Wakes};
use crate::store::{Error, Store};

/// How much is kept for those who come a moment later, in events and in bytes.
const RECENT: usize = 1024;
const RECENT_BYTES: usize = 1024 * 1024;

/// The feeds of one service that somebody follows. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Readers(Arc<Mutex<HashMap<String, Weak<Reader>>>>);

/// What follows a position.
pub(super) enum Page {
    /// This, without a hole; and whether there may be more behind it.
    Events(Vec<Arc<Event>>, bool),
    /// Something that is not kept any more.
    Gone,
}

impl Readers {
    /// The one reader of an owner's feed.
    pub(super) fn of(&self, owner: &Owner, service: &'static str, store: &Store, wakes: &Wakes) -> Arc<Reader> {
        let mut readers = self.lock();
        if let Some(reader) = readers.get(&owner.0).and_then(Weak::upgrade) {
            return reader;
        }
        let sleeper = wakes.on_feed(service, owner);
        let recent = Recent { before: 0, events: VecDeque::new(), bytes: 0, all: false, sleeper };
        let reader = Arc::new(Reader {
            owner: owner.clone(),
            store: store.clone(),
            readers: self.clone(),
            turn: tokio::sync::Mutex::default(),
            recent: Mutex::new(recent),
        });
        readers.insert(owner.0.clone(), Arc::downgrade(&reader));
        reader
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Weak<Reader>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads one feed, for as long as somebody follows it.
pub(super) struct Reader {
    owner: Owner,
    store: Store,
    readers: Readers,
    /// Who has it asks the database; who waits for it finds what was asked for.
    turn: tokio::sync::Mutex<()>,
    recent: Mutex<Recent>,
}

impl Reader {
    /// What follows a position. Take a wake-up before, as always.
    pub(super) async fn after(self: &Arc<Self>, position: i64) -> Result<Page, Error> {
        let known = self.recent().after(position);
        match known {
            Some(page) => Ok(page),
            // In a task: a stream that is not polled any more must not keep its turn.
            None => {
                let reader = Arc::clone(self);
                finish(async move { reader.read(position).await }).await
            }
        }
    }

    async fn read(&self, position: i64) -> Result<Page, Error> {
        if position < self.recent().before {
            let events = self.query(position).await?;
            // There were events behind it a moment ago.
            return Ok(if events.is_empty() { Page::Gone } else { page(position, &events, true) });
        }
        let _turn = self.turn.lock().await;
        {
            let mut recent = self.recent();
            if let Some(page) = recent.after(position) {
                return Ok(page);
            }
            recent.look();
        }
        let events = self.query(position).await?;
        if events.is_empty() && !feed::extent(self.store.reader(), &self.owner).await?.leads_on_from(position) {
            return Ok(Page::Gone);
        }
        let more = events.len() == PAGE;
        let page = page(position, &events, more);
        if let Page::Events(..) = page {
            self.recent().add(position, events);
        }
        Ok(page)
    }

    async fn query(&self, position: i64) -> Result<Vec<Arc<Event>>, Error> {
        let events = feed::page(self.store.reader(), &self.owner, position).await?;
        Ok(events.into_iter().map(Arc::new).collect())
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut readers = self.readers.lock();
        // Another may have been made since nobody had this one any more.
        if readers.get(&self.owner.0).is_some_and(|reader| reader.strong_count() == 0) {
            readers.remove(&self.owner.0);
        }
    }
}

fn page(position: i64, events: &[Arc<Event>], more: bool) -> Page {
    match events.first() {
        Some(first) if first.position != position + 1 => Page::Gone,
        _ => Page::Events(events.to_vec(), more),
    }
}

/// The end of a feed, as far as it is kept in memory.
struct Recent {
    /// The position before the first of `events`, which have no holes.
    before: i64,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// Whether nothing came behind the last of them when the sleeper looked last.
    all: bool,
    sleeper: Sleeper,
}

impl Recent {
    /// Before reading. Until what was read is added, nobody else is told that there is nothing: they have been woken by
    /// the same, and it is not known here yet.
    fn look(&mut self) {
        self.all = false;
        self.sleeper.look();
    }

    /// What follows a position, if that is known.
    fn after(&self, position: i64) -> Option<Page> {
        let skip = usize::try_from(position.checked_sub(self.before)?).ok()?;
        let left = self.events.len().checked_sub(skip)?;
        let all = self.all && !self.sleeper.is_woken();
        let known = left > 0 || all;
        known.then(|| {
            let events = self.events.iter().skip(skip).take(PAGE).cloned().collect();
            Page::Events(events, left > PAGE || !all)
        })
    }

    /// Keeps what was read behind a position, instead of what does not lead there. It never goes back: who is far
    /// behind gets by without.
    fn add(&mut self, position: i64, events: Vec<Arc<Event>>) {
        let last = self.before + i64::try_from(self.events.len()).unwrap_or(i64::MAX);
        if position < last {
            return;
        }
        if position > last {
            (self.before, self.bytes) = (position, 0);
            self.events.clear();
        }
        self.all = events.len() < PAGE;
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
    use mesh_proto::google::longrunning::Operation;
    use mesh_proto::mesh::operations::v1::Change;

    use super::*;

    fn events(positions: std::ops::RangeInclusive<i64>) -> Vec<Arc<Event>> {
        let event = |position| Event {
            position,
            revision: 1,
            change: Change::State,
            kind: String::new(),
            operation: Operation::default(),
            size: 1,
        };
        positions.map(|position| Arc::new(event(position))).collect()
    }

    /// Nothing known yet, and what wakes it.
    fn recent() -> (Recent, impl Fn()) {
        let (wakes, owner) = (Wakes::default(), Owner::current());
        let mut sleeper = wakes.on_feed("work", &owner);
        sleeper.look();
        let recent = Recent { before: 0, events: VecDeque::new(), bytes: 0, all: false, sleeper };
        (recent, move || wakes.feed("work", &owner))
    }

    /// The positions that follow one without a question to the database, and whether there may be more.
    fn known(recent: &Recent, position: i64) -> Option<(Vec<i64>, bool)> {
        match recent.after(position)? {
            Page::Events(events, more) => Some((events.iter().map(|event| event.position).collect(), more)),
            Page::Gone => panic!("gone"),
        }
    }

    #[test]
    fn what_one_has_read_the_others_find_until_they_are_woken() {
        let (mut recent, wake) = recent();
        assert_eq!(known(&recent, 10), None);
        recent.add(10, events(11..=13));
        assert_eq!(known(&recent, 10), Some((vec![11, 12, 13], false)));
        assert_eq!(known(&recent, 12), Some((vec![13], false)));
        assert_eq!(known(&recent, 13), Some((vec![], false)), "that there is nothing is known, too");
        assert_eq!((known(&recent, 9), known(&recent, 14)), (None, None));

        wake();
        assert_eq!(known(&recent, 12), Some((vec![13], true)));
        assert_eq!(known(&recent, 13), None);
        recent.look();
        assert_eq!(known(&recent, 13), None, "somebody is asking: nobody knows yet");
        recent.add(13, events(14..=14));
        assert_eq!(known(&recent, 12), Some((vec![13, 14], false)));
    }

    #[test]
    fn what_is_kept_is_bounded_and_never_goes_back() {
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

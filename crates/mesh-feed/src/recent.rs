//! The most recent events of a reader, encoded once for all streams.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::log::PAGE;

/// An event, encoded once for all streams that send it.
pub struct Event {
    /// Its number in what is followed: the revision of a subject, or the position in a feed. Numbers have no holes.
    pub number: i64,
    /// The type of the change, as in [`Row`](super::log::Row).
    pub change: i32,
    /// The kind of the subject.
    pub kind: String,
    /// Whether it is the last event of its subject.
    pub done: bool,
    /// The encoded message of the stream.
    pub frame: Bytes,
}

/// The most recent events, without a hole.
pub(super) struct Recent {
    /// The number before the first of `events`.
    before: i64,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    failed: bool,
}

impl Recent {
    /// No events, behind a number.
    pub(super) fn behind(number: i64) -> Self {
        Self { before: number, events: VecDeque::new(), bytes: 0, failed: false }
    }

    /// The number of the last event that was read.
    pub(super) fn last(&self) -> i64 {
        self.before + i64::try_from(self.events.len()).unwrap_or(i64::MAX)
    }

    /// Whether the last read failed, or found that the next event was deleted: streams read for themselves.
    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    /// Records such a read.
    pub(super) fn fail(&mut self) {
        self.failed = true;
    }

    /// The events behind a number, and whether there are more; `None` if the stream has to read for itself.
    pub(super) fn after(&mut self, number: i64) -> Option<(Vec<Arc<Event>>, bool)> {
        if self.failed {
            // The stream has events that the task has not: the task goes on behind them.
            if number > self.last() {
                *self = Self { failed: true, ..Self::behind(number) };
            }
            return None;
        }
        let skip = usize::try_from(number.checked_sub(self.before)?).ok()?;
        let events: Vec<_> = self.events.iter().skip(skip).take(PAGE).cloned().collect();
        let more = skip + events.len() < self.events.len();
        Some((events, more))
    }

    /// Adds the events that were read behind a number, and drops the oldest of those before them above `most` bytes.
    /// Returns whether there may be more.
    pub(super) fn add(&mut self, number: i64, events: Vec<Arc<Event>>, most: usize) -> bool {
        // A stream has moved the end since: see `after`.
        if number != self.last() {
            return true;
        }
        self.failed = false;
        let added = events.len();
        self.bytes += events.iter().map(|event| size(event)).sum::<usize>();
        self.events.extend(events);
        while self.bytes > most && self.events.len() > added {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= size(&oldest);
            self.before += 1;
        }
        added == PAGE
    }

    /// The memory of the events.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops the events.
    pub(super) fn forget(&mut self) {
        *self = Self { failed: self.failed, ..Self::behind(self.last()) };
    }
}

/// The memory of an event.
fn size(event: &Event) -> usize {
    size_of::<Event>() + event.kind.len() + event.frame.len()
}

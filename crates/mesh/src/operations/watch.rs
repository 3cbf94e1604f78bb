//! Follows one operation: from its feed, in order, to its end.
//!
//! A watcher is a pull: it reads the next page when its client has taken the last one, so a client that does not read
//! costs one page and no more, and holds nothing that others need. It takes its wake-up before it reads, so nothing slips through in between.

use std::collections::VecDeque;
use std::time::Duration;

use contracts::mesh::operations::v1::{Gap, Heartbeat, Progress, WatchResponse, watch_response};
use futures_util::Stream;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use uuid::Uuid;

use super::feed::{self, Change, Event};
use super::row::Row;
use super::storage;
use super::wake::Sleeper;
use super::{Operations, Owner, name};
use crate::error::{Violations, unavailable};
use crate::store::Error;

/// How much is read ahead of the client.
const PAGE: i64 = 64;
/// How long a stream lives, so that clients spread over instances again: 25 to 35 minutes.
const AGE: Duration = Duration::from_secs(25 * 60);
const AGE_JITTER: Duration = Duration::from_secs(10 * 60);
const HEARTBEAT: Duration = Duration::from_secs(15);
/// An event that comes alone is told at once; of those that follow closely, several are told together.
const BETWEEN_READS: Duration = Duration::from_millis(5);

/// A place in the history of one operation: this database's epoch, the operation, a revision of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) epoch: Uuid,
    pub(super) id: Uuid,
    pub(super) revision: i64,
}

impl Cursor {
    fn to_bytes(self) -> Vec<u8> {
        [self.epoch.as_bytes(), self.id.as_bytes(), &self.revision.to_be_bytes()[..]].concat()
    }

    /// Reads the cursor of a request; notes it as bad if it was never given out for this operation.
    pub(super) fn parse(bytes: &[u8], id: Uuid, bad: &mut Violations) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        let parsed = (|| {
            let (epoch, rest) = bytes.split_first_chunk::<16>()?;
            let (of, rest) = rest.split_first_chunk::<16>()?;
            let revision = i64::from_be_bytes(rest.try_into().ok()?);
            let cursor = Self { epoch: Uuid::from_bytes(*epoch), id: Uuid::from_bytes(*of), revision };
            (cursor.id == id && revision > 0).then_some(cursor)
        })();
        bad.check(parsed.is_some(), "cursor", "must come from a stream of this operation, or be empty");
        parsed
    }
}

/// How somebody wants to follow.
pub(super) struct Wish {
    pub(super) cursor: Option<Cursor>,
    pub(super) heartbeat: Option<Duration>,
    pub(super) progress: Progress,
}

/// One stream.
struct Watcher {
    operations: Operations,
    owner: Owner,
    id: Uuid,
    epoch: Uuid,
    /// The last revision that was put into `ahead`.
    revision: i64,
    /// The operation's revision when this began: that much was told, and is missing if it cannot be read.
    told: i64,
    progress: Progress,
    heartbeat: Duration,
    until: Instant,
    sleeper: Sleeper,
    last_read: Instant,
    /// When it last said something.
    last_frame: Instant,
    ahead: VecDeque<WatchResponse>,
    ended: bool,
}

/// Begins to follow an operation that is `row` now.
pub(super) fn watch(
    operations: Operations,
    epoch: Uuid,
    row: &Row,
    wish: Wish,
) -> impl Stream<Item = Result<WatchResponse, Status>> + Send + use<> {
    let heartbeat = wish.heartbeat.unwrap_or(HEARTBEAT);
    let mut watcher = Watcher {
        sleeper: operations.wakes.on_operation(row.id),
        operations,
        owner: row.owner.clone(),
        id: row.id,
        epoch,
        revision: 0,
        told: row.revision,
        progress: wish.progress,
        heartbeat: heartbeat.clamp(Duration::from_secs(5), Duration::from_secs(30)),
        until: Instant::now() + AGE + AGE_JITTER.mul_f64(fastrand::f64()),
        last_read: Instant::now(),
        last_frame: Instant::now(),
        ahead: VecDeque::new(),
        ended: false,
    };
    match wish.cursor {
        // The end is said again to who comes back after it: OK without it would say nothing.
        Some(cursor) if cursor.epoch == epoch && cursor.revision < row.revision => watcher.revision = cursor.revision,
        Some(cursor) if cursor.epoch == epoch && cursor.revision == row.revision && !row.is_done() => {
            watcher.revision = cursor.revision;
        }
        Some(cursor) if cursor.epoch == epoch && cursor.revision == row.revision => watcher.snapshot(row),
        // Another database's, or ahead of this one: a backup was restored.
        Some(_) => watcher.gap(row),
        None => watcher.snapshot(row),
    }
    futures_util::stream::unfold(watcher, |mut watcher| async move {
        let frame = watcher.next().await?;
        // What goes wrong ends the stream.
        watcher.ended |= frame.is_err();
        Some((frame, watcher))
    })
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<WatchResponse, Status>> {
        loop {
            if let Some(frame) = self.ahead.pop_front() {
                self.last_frame = Instant::now();
                return Some(Ok(frame));
            }
            if self.ended {
                return None;
            }
            self.sleeper.look();
            self.last_read = Instant::now();
            if let Err(status) = self.read().await {
                // Here, for a status in the trailers of a stream has lost its cause.
                let cause = std::error::Error::source(&status).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(operation = %self.id, cause, "a stream ends: {}", status.message());
                return Some(Err(status));
            }
            if !self.ahead.is_empty() || self.ended {
                continue;
            }
            tokio::select! {
                () = self.sleeper.woken() => sleep_until(self.last_read + BETWEEN_READS).await,
                () = sleep_until(self.last_frame + self.heartbeat) => self.push(watch_response::Event::Heartbeat(Heartbeat {})),
                () = sleep_until(self.until) => {
                    let message = "this stream has lived long enough; resume it by its cursor";
                    return Some(Err(unavailable("STREAM_DRAINING", message, Duration::from_millis(100))));
                }
            }
        }
    }

    async fn read(&mut self) -> Result<(), Status> {
        let (store, id, revision) = (self.operations.store.clone(), self.id, self.revision);
        let events = finish(async move { feed::events(store.reader(), id, revision, PAGE).await }).await?;
        let whole = match events.first() {
            Some(first) => first.revision == self.revision + 1,
            None => self.revision >= self.told,
        };
        if !whole {
            // What is missing is not kept any more; what is there now is all there is to say.
            let (store, owner) = (self.operations.store.clone(), self.owner.clone());
            let row = finish(async move { storage::get(store.reader(), &owner, id).await }).await?;
            self.gap(&row.ok_or_else(|| name::unknown(&name::format(self.operations.service, id)))?);
            return Ok(());
        }
        let newest = events.last().map(|event| event.revision);
        for event in events {
            self.revision = event.revision;
            self.ended |= event.operation.done;
            if self.wanted(&event, newest) {
                self.push(watch_response::Event::Update(event.operation));
            }
        }
        Ok(())
    }

    fn wanted(&self, event: &Event, newest: Option<i64>) -> bool {
        match self.progress {
            Progress::All => true,
            Progress::TerminalOnly => event.operation.done,
            Progress::Unspecified => event.change == Change::State || Some(event.revision) == newest,
        }
    }

    fn gap(&mut self, row: &Row) {
        self.revision = row.revision;
        self.push(watch_response::Event::Gap(Gap {}));
        self.snapshot(row);
    }

    fn snapshot(&mut self, row: &Row) {
        self.revision = row.revision;
        self.ended = row.is_done();
        self.push(watch_response::Event::Snapshot(row.to_operation(self.operations.service)));
    }

    fn push(&mut self, event: watch_response::Event) {
        let cursor = Cursor { epoch: self.epoch, id: self.id, revision: self.revision };
        self.ahead.push_back(WatchResponse { cursor: cursor.to_bytes(), event: Some(event) });
    }
}

/// Finishes a query whether or not this stream is polled meanwhile. A client that does not read stops its stream
/// wherever it stands; in the middle of a query, that would be with one of the few connections in its hands.
async fn finish<T: Send + 'static>(query: impl Future<Output = Result<T, Error>> + Send + 'static) -> Result<T, Error> {
    let task = AbortOnDropHandle::new(tokio::spawn(query));
    task.await.unwrap_or(Err(Error::Unavailable(sqlx::Error::WorkerCrashed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written_and_only_for_its_operation() {
        let cursor = Cursor { epoch: Uuid::new_v4(), id: Uuid::now_v7(), revision: 7 };
        let read = |bytes: &[u8], id| {
            let mut bad = Violations::default();
            let read = Cursor::parse(bytes, id, &mut bad);
            bad.finish().map(|()| read)
        };
        assert_eq!(read(&cursor.to_bytes(), cursor.id).unwrap(), Some(cursor));
        assert_eq!(read(b"", cursor.id).unwrap(), None);
        assert!(read(&cursor.to_bytes(), Uuid::now_v7()).is_err());
        assert!(read(&cursor.to_bytes()[1..], cursor.id).is_err());
        assert!(read(b"nonsense", cursor.id).is_err());
    }
}

//! Follows one operation: from its feed, in order, to its end.

use std::time::Duration;

use futures_util::Stream;
use mesh_proto::mesh::operations::v1::{Gap, Heartbeat, Progress, WatchResponse, watch_response};
use tonic::Status;
use uuid::Uuid;

use super::feed::{self, Change, Event};
use super::row::Row;
use super::storage;
use super::stream::{Follow, PAGE, Then, finish, stream};
use super::{Operations, Owner, name};
use crate::error::Violations;

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
    /// The last revision that was read.
    revision: i64,
    /// The operation's revision when this began: that much was told, and is missing if it cannot be read.
    told: i64,
    progress: Progress,
    done: bool,
}

/// Begins to follow an operation that is `row` now.
pub(super) fn watch(
    operations: Operations,
    epoch: Uuid,
    row: &Row,
    wish: Wish,
) -> impl Stream<Item = Result<WatchResponse, Status>> + Send + use<> {
    let (sleeper, patience) = (operations.wakes.on_operation(row.id), operations.patience.clone());
    let mut watcher = Watcher {
        operations,
        owner: row.owner.clone(),
        id: row.id,
        epoch,
        revision: 0,
        told: row.revision,
        progress: wish.progress,
        done: false,
    };
    let begin = match wish.cursor {
        // Another database's, or ahead of this one: a backup was restored.
        Some(cursor) if cursor.epoch != epoch || cursor.revision > row.revision => watcher.gap(row),
        // The end is said again to who comes back after it: OK without it would say nothing.
        Some(cursor) if cursor.revision < row.revision || !row.is_done() => {
            watcher.revision = cursor.revision;
            Vec::new()
        }
        _ => vec![watcher.snapshot(row)],
    };
    stream(watcher, begin, sleeper, wish.heartbeat, &patience)
}

impl Follow for Watcher {
    type Frame = WatchResponse;

    async fn read(&mut self) -> Result<(Vec<WatchResponse>, Then), Status> {
        if self.done {
            return Ok((Vec::new(), Then::End));
        }
        let (store, id, revision) = (self.operations.store.clone(), self.id, self.revision);
        let events = finish(async move { feed::events(store.reader(), id, revision).await }).await?;
        let whole = match events.first() {
            Some(first) => first.revision == self.revision + 1,
            None => self.revision >= self.told,
        };
        if !whole {
            // What is missing is not kept any more; what is there now is all there is to say.
            let (store, owner) = (self.operations.store.clone(), self.owner.clone());
            let row = finish(async move { storage::get(store.reader(), &owner, id).await }).await?;
            let row = row.ok_or_else(|| name::unknown(&name::format(self.operations.service, id)))?;
            return Ok((self.gap(&row), Then::Read));
        }
        let (newest, count) = (events.last().map(|event| event.revision), events.len());
        let mut frames = Vec::new();
        for event in events {
            self.revision = event.revision;
            self.done |= event.operation.done;
            if self.wanted(&event, newest) {
                frames.push(self.frame(watch_response::Event::Update(event.operation)));
            }
        }
        let more = self.done || count == PAGE;
        Ok((frames, if more { Then::Read } else { Then::Wait }))
    }

    fn heartbeat(&self) -> WatchResponse {
        self.frame(watch_response::Event::Heartbeat(Heartbeat {}))
    }
}

impl Watcher {
    fn wanted(&self, event: &Event, newest: Option<i64>) -> bool {
        match self.progress {
            Progress::All => true,
            Progress::TerminalOnly => event.operation.done,
            Progress::Unspecified => event.change == Change::State || Some(event.revision) == newest,
        }
    }

    /// The gap's own cursor is the empty one: who applies it, and is cut off, begins with the snapshot.
    fn gap(&mut self, row: &Row) -> Vec<WatchResponse> {
        let gap = WatchResponse { cursor: Vec::new(), event: Some(watch_response::Event::Gap(Gap {})) };
        vec![gap, self.snapshot(row)]
    }

    fn snapshot(&mut self, row: &Row) -> WatchResponse {
        self.revision = row.revision;
        self.told = row.revision;
        self.done = row.is_done();
        self.frame(watch_response::Event::Snapshot(row.to_operation(self.operations.service)))
    }

    fn frame(&self, event: watch_response::Event) -> WatchResponse {
        let cursor = Cursor { epoch: self.epoch, id: self.id, revision: self.revision };
        WatchResponse { cursor: cursor.to_bytes(), event: Some(event) }
    }
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

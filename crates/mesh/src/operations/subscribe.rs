//! Follows all that an owner has at one service: what is not done first, then what becomes of it.
//!
//! A snapshot is given a page at a time, and no transaction is kept open for it. It is whole all the same: it belongs
//! to one position of the feed, and leaves out what has changed behind that, which the feed is about to tell: only what
//! the feed has told by the end of the last page makes it whole, and so `caught_up` comes behind that. A stream that
//! breaks in its middle is resumed in its middle.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use mesh_proto::mesh::operations::v1::subscribe_response::Frame;
use mesh_proto::mesh::operations::v1::{CaughtUp, Heartbeat, OperationEvent, Reset, SubscribeResponse};
use tonic::Status;
use uuid::Uuid;

use super::feed::{self, Event};
use super::reader::{Page, Reader};
use super::stream::{Follow, PAGE, Then, finish, stream};
use super::{Operations, Owner, list};
use crate::error::Violations;

/// A place in a feed: this database's epoch, a position; in a snapshot of that position also the last operation that
/// was given, nil if none was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    epoch: Uuid,
    position: i64,
    snapshot: Option<Uuid>,
}

impl Cursor {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = [self.epoch.as_bytes(), &self.position.to_be_bytes()[..]].concat();
        bytes.extend(self.snapshot.iter().flat_map(Uuid::as_bytes));
        bytes
    }

    /// Reads the cursor of a request; notes it as bad if it was never given out.
    pub(super) fn parse(bytes: &[u8], bad: &mut Violations) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        let parsed = (|| {
            let (epoch, rest) = bytes.split_first_chunk::<16>()?;
            let (position, rest) = rest.split_first_chunk::<8>()?;
            let position = i64::from_be_bytes(*position);
            let snapshot = if rest.is_empty() { None } else { Some(Uuid::from_slice(rest).ok()?) };
            (position >= 0).then_some(Self { epoch: Uuid::from_bytes(*epoch), position, snapshot })
        })();
        bad.check(parsed.is_some(), "cursor", "must come from a stream of Subscribe, or be empty");
        parsed
    }
}

/// What somebody wants to hear.
pub(super) struct Wish {
    pub(super) cursor: Option<Cursor>,
    /// All, if there are none.
    pub(super) kinds: HashSet<String>,
    pub(super) terminal_only: bool,
    pub(super) heartbeat: Option<Duration>,
}

/// One stream.
struct Subscriber {
    operations: Operations,
    owner: Owner,
    reader: Arc<Reader>,
    epoch: Uuid,
    /// The last position that was read; during a snapshot, the one it belongs to.
    position: i64,
    phase: Phase,
    kinds: HashSet<String>,
    terminal_only: bool,
}

#[derive(Clone, Copy)]
enum Phase {
    /// Gives what is not done, behind this operation.
    Snapshot(Uuid),
    /// Gives what was told before it came, or during its snapshot, which ends at this position.
    Replay(i64),
    Live,
}

/// Begins to follow what `owner` has.
pub(super) async fn subscribe(
    operations: Operations,
    epoch: Uuid,
    owner: Owner,
    wish: Wish,
) -> Result<impl Stream<Item = Result<SubscribeResponse, Status>> + Send + use<>, Status> {
    let Operations { service, store, wakes, patience, readers, .. } = &operations;
    let (sleeper, patience) = (wakes.on_feed(service, &owner), patience.clone());
    let reader = readers.of(&owner, service, store, wakes);
    let feed = feed::extent(store.reader(), &owner).await?;
    let Wish { cursor, kinds, terminal_only, heartbeat } = wish;
    let (position, phase) = (feed.last, Phase::Snapshot(Uuid::nil()));
    let mut subscriber = Subscriber { operations, owner, reader, epoch, position, phase, kinds, terminal_only };
    let mut begin = Vec::new();
    match cursor {
        None => {}
        Some(cursor) if cursor.epoch == epoch && feed.leads_on_from(cursor.position) => {
            subscriber.position = cursor.position;
            subscriber.phase = cursor.snapshot.map_or(Phase::Replay(feed.last), Phase::Snapshot);
        }
        // Another database's, ahead of this one, or from too long ago.
        Some(_) => begin.push(subscriber.frame(Frame::Reset(Reset {}))),
    }
    Ok(stream(subscriber, begin, sleeper, heartbeat, &patience))
}

impl Follow for Subscriber {
    type Frame = SubscribeResponse;

    async fn read(&mut self) -> Result<(Vec<SubscribeResponse>, Then), Status> {
        if let Phase::Snapshot(last) = self.phase {
            return Ok((self.snapshot(last).await?, Then::Read));
        }
        let mut frames = Vec::new();
        self.catch_up(&mut frames);
        match self.reader.after(self.position).await? {
            Page::Events(events, more) => {
                for event in events {
                    self.position = event.position;
                    if self.wants(&event.kind) && (event.operation.done || !self.terminal_only) {
                        frames.push(self.frame(Frame::Event(told(&event))));
                    }
                    self.catch_up(&mut frames);
                }
                Ok((frames, if more { Then::Read } else { Then::Wait }))
            }
            Page::Gone => {
                let (store, owner) = (self.operations.store.clone(), self.owner.clone());
                let feed = finish(async move { feed::extent(store.reader(), &owner).await }).await?;
                (self.position, self.phase) = (feed.last, Phase::Snapshot(Uuid::nil()));
                frames.push(self.frame(Frame::Reset(Reset {})));
                Ok((frames, Then::Read))
            }
        }
    }

    fn heartbeat(&self) -> SubscribeResponse {
        self.frame(Frame::Heartbeat(Heartbeat {}))
    }
}

impl Subscriber {
    /// The next page of what is not done.
    async fn snapshot(&mut self, last: Uuid) -> Result<Vec<SubscribeResponse>, Status> {
        let (store, owner) = (self.operations.store.clone(), self.owner.clone());
        // What has changed since is left to the feed, unless the feed leaves it out.
        let position = if self.terminal_only { i64::MAX } else { self.position };
        let (rows, end) = finish(async move {
            let rows = list::open_at(store.reader(), &owner, position, last).await?;
            // Asked afterwards: what the page leaves out is told up to here.
            Ok((rows, feed::extent(store.reader(), &owner).await?.last))
        })
        .await?;
        let mut frames = Vec::new();
        for row in &rows {
            self.phase = Phase::Snapshot(row.id);
            if self.wants(&row.kind) {
                frames.push(self.frame(Frame::Snapshot(row.to_operation(self.operations.service))));
            }
        }
        if rows.len() < PAGE {
            self.phase = Phase::Replay(end);
        }
        Ok(frames)
    }

    /// Says so, once, when everything is told that was there when this began, or when its snapshot ended.
    fn catch_up(&mut self, frames: &mut Vec<SubscribeResponse>) {
        if matches!(self.phase, Phase::Replay(until) if until <= self.position) {
            self.phase = Phase::Live;
            frames.push(self.frame(Frame::CaughtUp(CaughtUp {})));
        }
    }

    fn wants(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.contains(kind)
    }

    fn frame(&self, frame: Frame) -> SubscribeResponse {
        let snapshot = if let Phase::Snapshot(last) = self.phase { Some(last) } else { None };
        let cursor = Cursor { epoch: self.epoch, position: self.position, snapshot };
        SubscribeResponse { cursor: cursor.to_bytes(), frame: Some(frame) }
    }
}

fn told(event: &Event) -> OperationEvent {
    OperationEvent { operation: Some(event.operation.clone()), change: event.change.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let read = |bytes: &[u8]| {
            let mut bad = Violations::default();
            let read = Cursor::parse(bytes, &mut bad);
            bad.finish().map(|()| read)
        };
        for snapshot in [None, Some(Uuid::nil()), Some(Uuid::now_v7())] {
            let cursor = Cursor { epoch: Uuid::new_v4(), position: 7, snapshot };
            assert_eq!(read(&cursor.to_bytes()).unwrap(), Some(cursor));
            assert!(read(&cursor.to_bytes()[1..]).is_err());
        }
        assert_eq!(read(b"").unwrap(), None);
        assert!(read(b"nonsense").is_err());
    }
}

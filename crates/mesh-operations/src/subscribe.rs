//! Follows all operations of a caller at one service: a snapshot of what is not done, then each change.
//!
//! A snapshot is sent a page at a time, and no transaction is kept open for it. It is consistent all the same: it belongs
//! to one position of the feed and leaves out operations that have changed behind it, which the feed sends next. It is
//! complete with the rows of the feed up to the end of its last page, so `caught_up` comes behind those. A stream that
//! breaks in the middle of a snapshot is resumed there.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use mesh_feed::cursor::FeedCursor;
use mesh_feed::log::{self, Event, PAGE};
use mesh_feed::notifier::Key;
use mesh_feed::reader::{Reader, Tail};
use mesh_feed::stream::{Follow, Then, finish, stream};
use mesh_proto::google::longrunning::Operation;
use mesh_proto::mesh::operations::v1::subscribe_response::Frame;
use mesh_proto::mesh::operations::v1::{CaughtUp, Change, Heartbeat, OperationEvent, Reset, SubscribeResponse};
use mesh_rpc::call::Caller;
use tonic::Status;
use uuid::Uuid;

use super::list;
use super::operations::Operations;
use super::records::Records;

/// What a client wants to follow.
pub(super) struct Wish {
    pub(super) cursor: Option<FeedCursor>,
    /// All, if there are none.
    pub(super) kinds: HashSet<String>,
    pub(super) terminal_only: bool,
    pub(super) heartbeat: Option<Duration>,
}

/// One stream.
struct Subscriber {
    operations: Operations,
    caller: Caller,
    reader: Arc<Reader<Operation>>,
    epoch: Uuid,
    /// The last position that was read; during a snapshot, the one it belongs to.
    position: i64,
    phase: Phase,
    kinds: HashSet<String>,
    terminal_only: bool,
}

#[derive(Clone, Copy)]
enum Phase {
    /// Sends operations that are not done, behind this one.
    Snapshot(Uuid),
    /// Sends the rows from before it came, or from during its snapshot, up to this position.
    Replay(i64),
    Live,
}

/// Begins to follow the operations of `caller`.
pub(super) async fn subscribe(
    operations: Operations,
    epoch: Uuid,
    caller: Caller,
    wish: Wish,
) -> Result<impl Stream<Item = Result<SubscribeResponse, Status>> + Send + use<>, Status> {
    let Records { service, store, notifier } = &operations.records;
    let listener = notifier.listen(Key::Feed(service, caller.clone()));
    let watchdog = operations.watchdog.clone();
    let reader = operations.readers.of(&caller, service, store, notifier);
    let feed = log::extent(store.reader(), &caller).await?;
    let Wish { cursor, kinds, terminal_only, heartbeat } = wish;
    let (position, phase) = (feed.last, Phase::Snapshot(Uuid::nil()));
    let mut subscriber = Subscriber { operations, caller, reader, epoch, position, phase, kinds, terminal_only };
    let mut begin = Vec::new();
    match cursor {
        None => {}
        Some(cursor) if cursor.epoch == epoch && feed.can_resume_from(cursor.position) => {
            subscriber.position = cursor.position;
            subscriber.phase = cursor.snapshot.map_or(Phase::Replay(feed.last), Phase::Snapshot);
        }
        // Another database's, ahead of this one, or from too long ago.
        Some(_) => begin.push(subscriber.frame(Frame::Reset(Reset {}))),
    }
    Ok(stream(subscriber, begin, listener, heartbeat, &watchdog))
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
            Tail::Events(events, more) => {
                for event in events {
                    self.position = event.position;
                    if self.wants(&event.kind) && (event.value.done || !self.terminal_only) {
                        frames.push(self.frame(Frame::Event(to_wire(&event))));
                    }
                    self.catch_up(&mut frames);
                }
                Ok((frames, if more { Then::Read } else { Then::Wait }))
            }
            Tail::Gone => {
                let (store, caller) = (self.operations.records.store.clone(), self.caller.clone());
                let feed = finish(async move { log::extent(store.reader(), &caller).await }).await?;
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
    /// The next page of operations that are not done.
    async fn snapshot(&mut self, last: Uuid) -> Result<Vec<SubscribeResponse>, Status> {
        let (store, caller) = (self.operations.records.store.clone(), self.caller.clone());
        // The feed sends what has changed since, unless it leaves that out.
        let position = if self.terminal_only { i64::MAX } else { self.position };
        let (rows, end) = finish(async move {
            let rows = list::open_at(store.reader(), &caller, position, last).await?;
            // Asked afterwards: the feed has what the page leaves out up to here.
            Ok((rows, log::extent(store.reader(), &caller).await?.last))
        })
        .await?;
        let mut frames = Vec::new();
        for row in &rows {
            self.phase = Phase::Snapshot(row.id);
            if self.wants(&row.kind) {
                frames.push(self.frame(Frame::Snapshot(row.to_operation(self.operations.records.service))));
            }
        }
        if rows.len() < PAGE {
            self.phase = Phase::Replay(end);
        }
        Ok(frames)
    }

    /// Adds `caught_up`, once, when the rows are sent that were there when this began, or when its snapshot ended.
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
        let cursor = FeedCursor { epoch: self.epoch, position: self.position, snapshot };
        SubscribeResponse { cursor: cursor.to_bytes(), frame: Some(frame) }
    }
}

fn to_wire(event: &Event<Operation>) -> OperationEvent {
    // A change that is not known is not progress, and so never left out.
    let change = Change::try_from(event.change).unwrap_or(Change::State);
    OperationEvent { operation: Some(event.value.clone()), change: change.into() }
}

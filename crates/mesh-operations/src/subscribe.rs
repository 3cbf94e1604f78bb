//! Follows all operations of a caller at one service: a snapshot of the operations that are not done, then each change.
//!
//! A snapshot is sent in pages, without an open transaction. It belongs to one position of the feed and leaves out
//! operations that have changed since; the feed sends those next.
//!
//! Guarantees:
//! - Snapshot and feed together are complete. `caught_up` follows the feed rows up to the end of the last snapshot
//!   page.
//! - A stream that breaks within a snapshot resumes there.

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

/// The options of a subscription.
pub(super) struct SubscribeOptions {
    pub(super) cursor: Option<FeedCursor>,
    /// The kinds of work to follow; all kinds if empty.
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
    /// The last position that was read; during a snapshot, the position of the snapshot.
    position: i64,
    phase: Phase,
    kinds: HashSet<String>,
    terminal_only: bool,
}

#[derive(Clone, Copy)]
enum Phase {
    /// Sends operations that are not done, behind this id.
    Snapshot(Uuid),
    /// Sends the rows from before the subscription, or from during its snapshot, up to this position.
    Replay(i64),
    Live,
}

/// Begins to follow the operations of `caller`.
pub(super) async fn subscribe(
    operations: Operations,
    epoch: Uuid,
    caller: Caller,
    options: SubscribeOptions,
) -> Result<impl Stream<Item = Result<SubscribeResponse, Status>> + Send + use<>, Status> {
    let Records { service, store, notifier } = &operations.records;
    let listener = notifier.listen(Key::Feed(service, caller.clone()));
    let watchdog = operations.watchdog.clone();
    let reader = operations.readers.of(&caller, service, store, notifier);
    let feed = log::extent(store.reader(), &caller).await?;
    let SubscribeOptions { cursor, kinds, terminal_only, heartbeat } = options;
    let (position, phase) = (feed.last, Phase::Snapshot(Uuid::nil()));
    let mut subscriber = Subscriber { operations, caller, reader, epoch, position, phase, kinds, terminal_only };
    let mut begin = Vec::new();
    match cursor {
        None => {}
        Some(cursor) if cursor.epoch == epoch && feed.can_resume_from(cursor.position) => {
            subscriber.position = cursor.position;
            subscriber.phase = cursor.snapshot.map_or(Phase::Replay(feed.last), Phase::Snapshot);
        }
        // Of another epoch, ahead of the feed, or below the kept rows.
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
        // The feed sends the operations that have changed since, unless it sends ends only.
        let position = if self.terminal_only { i64::MAX } else { self.position };
        let (rows, end) = finish(async move {
            let rows = list::open_at(store.reader(), &caller, position, last).await?;
            // Read after the page: up to here the feed has the operations that the page leaves out.
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

    /// Adds `caught_up`, once, after the rows from before the subscription, or from during its snapshot.
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
    // An unknown change counts as a change of state, so that it is never left out.
    let change = Change::try_from(event.change).unwrap_or(Change::State);
    OperationEvent { operation: Some(event.value.clone()), change: change.into() }
}

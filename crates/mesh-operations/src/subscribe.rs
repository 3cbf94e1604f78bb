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
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use mesh_feed::cursor::FeedCursor;
use mesh_feed::log::{self, PAGE};
use mesh_feed::notifier::Key;
use mesh_feed::reader::{Page, Tail};
use mesh_feed::stream::{Follow, Then, finish, stream};
use mesh_proto::mesh::operations::v1::subscribe_response::Frame;
use mesh_proto::mesh::operations::v1::{CaughtUp, Heartbeat, Reset};
use mesh_rpc::call::Caller;
use tonic::Status;
use uuid::Uuid;

use super::list;
use super::operations::Operations;
use super::sources::Feed;

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
    /// Its number is the last position that was read; during a snapshot, the position of the snapshot.
    feed: Tail<Feed>,
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
) -> Result<impl Stream<Item = Result<Bytes, Status>> + Send + use<>, Status> {
    let Operations { records, watchdog, feeds, .. } = operations;
    let extent = log::extent(records.store.reader(), &caller).await?;
    let (key, notifier) = (Key::Feed(records.service, caller.clone()), records.notifier.clone());
    let feed = feeds.tail(key, Feed { records, caller, epoch }, extent.last, extent.last, &notifier);
    let SubscribeOptions { cursor, kinds, terminal_only, heartbeat } = options;
    let mut subscriber = Subscriber { feed, phase: Phase::Snapshot(Uuid::nil()), kinds, terminal_only };
    let mut begin = Vec::new();
    match cursor {
        None => {}
        Some(cursor) if cursor.epoch == epoch && extent.can_resume_from(cursor.position) => {
            subscriber.feed.number = cursor.position;
            subscriber.phase = cursor.snapshot.map_or(Phase::Replay(extent.last), Phase::Snapshot);
        }
        // Of another epoch, ahead of the feed, or below the kept rows.
        Some(_) => begin.push(subscriber.frame(Frame::Reset(Reset {}))),
    }
    Ok(stream(subscriber, begin, heartbeat, &watchdog))
}

impl Follow for Subscriber {
    type Frame = Bytes;

    async fn read(&mut self) -> Result<(Vec<Bytes>, Then), Status> {
        if let Phase::Snapshot(last) = self.phase {
            return Ok((self.snapshot(last).await?, Then::Read));
        }
        let mut frames = Vec::new();
        self.catch_up(&mut frames);
        match self.feed.next().await? {
            Page::Events(events, more) => {
                for event in events {
                    self.feed.number = event.number;
                    if self.wants(&event.kind) && (event.done || !self.terminal_only) {
                        frames.push(event.frame.clone());
                    }
                    self.catch_up(&mut frames);
                }
                Ok((frames, if more { Then::Read } else { Then::Wait }))
            }
            Page::Gone => {
                self.feed.number = self.feed.source().last().await?;
                self.phase = Phase::Snapshot(Uuid::nil());
                frames.push(self.frame(Frame::Reset(Reset {})));
                Ok((frames, Then::Read))
            }
        }
    }

    async fn more(&mut self) {
        self.feed.more().await;
    }

    fn heartbeat(&self) -> Bytes {
        self.frame(Frame::Heartbeat(Heartbeat {}))
    }
}

impl Subscriber {
    /// The next page of operations that are not done.
    async fn snapshot(&mut self, last: Uuid) -> Result<Vec<Bytes>, Status> {
        let Feed { records, caller, .. } = self.feed.source();
        let (store, caller, service) = (records.store.clone(), caller.clone(), records.service);
        // The feed sends the operations that have changed since, unless it sends ends only.
        let position = if self.terminal_only { i64::MAX } else { self.feed.number };
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
                frames.push(self.frame(Frame::Snapshot(row.to_operation(service))));
            }
        }
        if rows.len() < PAGE {
            self.phase = Phase::Replay(end);
        }
        Ok(frames)
    }

    /// Adds `caught_up`, once, after the rows from before the subscription, or from during its snapshot.
    fn catch_up(&mut self, frames: &mut Vec<Bytes>) {
        if matches!(self.phase, Phase::Replay(until) if until <= self.feed.number) {
            self.phase = Phase::Live;
            frames.push(self.frame(Frame::CaughtUp(CaughtUp {})));
        }
    }

    fn wants(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.contains(kind)
    }

    fn frame(&self, frame: Frame) -> Bytes {
        let snapshot = if let Phase::Snapshot(last) = self.phase { Some(last) } else { None };
        self.feed.source().frame(self.feed.number, snapshot, frame)
    }
}

//! Follows the events of a service: a snapshot of its present state for a new reader, then each event.
//!
//! A snapshot is sent in pages of the owner's own tables, without an open transaction. It belongs to the end of the log
//! before its first page; the stream sends the events from there on next, so a change during the snapshot is not
//! missed.
//!
//! Guarantees:
//! - Snapshot and events together are complete. `caught_up` follows the events up to the end of the last page.
//! - A cursor whose row is not there, or has another time, gets a reset: the row was deleted, or the database was
//!   restored.
//! - A stream that breaks within a snapshot resumes there.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use mesh_feed::cursor::LogCursor;
use mesh_feed::notifier::Key;
use mesh_feed::reader::{Page, Tail};
use mesh_feed::stream::{Follow, Then, finish, stream};
use mesh_proto::mesh::events::v1::subscribe_response::Frame;
use mesh_proto::mesh::events::v1::{CaughtUp, Event, Heartbeat, Reset, SubscribeResponse};
use mesh_rpc::call::error::internal;
use mesh_store::{Error, Store};
use prost::Message as _;
use prost_types::Any;
use tonic::Status;
use uuid::Uuid;

use super::log::{self, End, PAGE};
use super::source::{Log, Published, Publishes, frame};

/// The options of a subscription.
pub(super) struct Options {
    pub(super) cursor: Option<LogCursor>,
    /// The types to send; all types if empty.
    pub(super) types: HashSet<String>,
    pub(super) heartbeat: Option<Duration>,
}

/// One stream.
struct Subscriber {
    /// Its number is the last position that was read; during a snapshot, the position of the snapshot.
    log: Tail<Log>,
    publishes: Publishes,
    /// The time of the row at the number.
    told: i64,
    /// The last known end of the log.
    head: i64,
    phase: Phase,
    types: HashSet<String>,
}

#[derive(Clone)]
enum Phase {
    /// Sends the present state, behind this key.
    Snapshot(String),
    /// Sends the events from before the subscription, or from during its snapshot, up to this position.
    Replay(i64),
    Live,
}

/// Begins to follow the events of a service.
pub(super) async fn subscribe(
    published: Published,
    epoch: Uuid,
    options: Options,
) -> Result<impl Stream<Item = Result<Bytes, Status>> + Send + use<>, Status> {
    let Published { service, store, publishes, notifier, watchdog, readers } = published;
    let Options { cursor, types, heartbeat } = options;
    let end = log::end(store.reader()).await?;
    let resumes = match &cursor {
        Some(cursor) => cursor.epoch == epoch && is_known(&store, cursor, end).await?,
        None => false,
    };
    let log = readers.tail(Key::Events(service), Log { store, epoch }, end.head, end.head, &notifier);
    let phase = Phase::Snapshot(String::new());
    let mut subscriber = Subscriber { log, publishes, told: end.told, head: end.head, phase, types };
    let mut begin = Vec::new();
    match cursor {
        Some(cursor) if resumes => {
            subscriber.log.number = cursor.position;
            subscriber.told = cursor.told;
            subscriber.phase = cursor.snapshot.map_or(Phase::Replay(end.head), Phase::Snapshot);
        }
        Some(_) => begin.push(subscriber.frame(Frame::Reset(Reset {}))),
        None => {}
    }
    Ok(stream(subscriber, begin, heartbeat, &watchdog))
}

/// Whether a cursor is from this history of the database, and no event behind it was deleted.
async fn is_known(store: &Store, cursor: &LogCursor, end: End) -> Result<bool, Error> {
    if cursor.position == 0 {
        return Ok(cursor.told == 0 && end.floor == 1);
    }
    Ok(log::told_at(store.reader(), cursor.position).await? == Some(cursor.told))
}

impl Follow for Subscriber {
    type Frame = Bytes;

    async fn read(&mut self) -> Result<(Vec<Bytes>, Then), Status> {
        if let Phase::Snapshot(after) = self.phase.clone() {
            return Ok((self.snapshot(after).await?, Then::Read));
        }
        let mut frames = Vec::new();
        self.catch_up(&mut frames);
        match self.log.next().await? {
            Page::Events(events, more) => {
                for event in &events {
                    self.log.number = event.number;
                    if self.wants(&event.kind) {
                        frames.push(event.frame.clone());
                    }
                    if matches!(self.phase, Phase::Replay(until) if until <= event.number) {
                        self.note(&event.frame)?;
                        self.catch_up(&mut frames);
                    }
                }
                if let Some(last) = events.last() {
                    self.note(&last.frame)?;
                }
                Ok((frames, if more { Then::Read } else { Then::Wait }))
            }
            Page::Gone => {
                frames.push(self.restart().await?);
                Ok((frames, Then::Read))
            }
        }
    }

    async fn more(&mut self) {
        self.log.more().await;
    }

    fn heartbeat(&self) -> Bytes {
        self.frame(Frame::Heartbeat(Heartbeat {}))
    }
}

impl Subscriber {
    /// Begins with a snapshot again: events were deleted before the stream has read them.
    async fn restart(&mut self) -> Result<Bytes, Status> {
        let store = self.log.source().store.clone();
        let end = finish(async move { log::end(store.reader()).await }).await?;
        self.log.number = end.head;
        (self.told, self.head) = (end.told, end.head);
        self.phase = Phase::Snapshot(String::new());
        Ok(self.frame(Frame::Reset(Reset {})))
    }

    /// The next page of the present state.
    async fn snapshot(&mut self, after: String) -> Result<Vec<Bytes>, Status> {
        let (store, page) = (self.log.source().store.clone(), Arc::clone(&self.publishes.snapshot));
        let limit = i64::try_from(PAGE).unwrap_or(i64::MAX);
        let behind = after.clone();
        let (rows, end) = finish(async move {
            let rows = page(store.clone(), behind, limit).await?;
            // Read after the page: up to here the log has the changes that the page leaves out.
            Ok((rows, log::end(store.reader()).await?))
        })
        .await?;
        self.head = end.head;
        // A snapshot that does not ask for what is behind the key would never end.
        if rows.last().is_some_and(|(key, _)| *key == after || key.is_empty()) {
            return Err(internal(Arc::new(sqlx::Error::Protocol(format!("the snapshot stays at the key `{after}`")))));
        }
        let mut frames = Vec::new();
        let count = rows.len();
        for (key, data) in rows {
            self.phase = Phase::Snapshot(key.clone());
            if self.wants(full_name(&data)) {
                let event = Event { position: self.log.number, key, data: Some(data), ..Event::default() };
                frames.push(self.frame(Frame::Snapshot(event)));
            }
        }
        if count < PAGE {
            self.phase = Phase::Replay(end.head);
        }
        Ok(frames)
    }

    /// Adds `caught_up`, once, after the events from before the subscription, or from during its snapshot.
    fn catch_up(&mut self, frames: &mut Vec<Bytes>) {
        if matches!(self.phase, Phase::Replay(until) if until <= self.log.number) {
            self.phase = Phase::Live;
            frames.push(self.frame(Frame::CaughtUp(CaughtUp {})));
        }
    }

    /// Takes the time and the end of the log from the frame of the last event.
    fn note(&mut self, frame: &Bytes) -> Result<(), Status> {
        let unreadable = |error: prost::DecodeError| internal(Arc::new(error));
        let response = SubscribeResponse::decode(frame.clone()).map_err(unreadable)?;
        self.head = response.head;
        if let Ok(Some(cursor)) = LogCursor::parse(&response.cursor) {
            self.told = cursor.told;
        }
        Ok(())
    }

    fn wants(&self, kind: &str) -> bool {
        self.types.is_empty() || self.types.contains(kind)
    }

    fn frame(&self, content: Frame) -> Bytes {
        let snapshot = if let Phase::Snapshot(last) = &self.phase { Some(last.clone()) } else { None };
        let position = self.log.number;
        let cursor = LogCursor { epoch: self.log.source().epoch, position, told: self.told, snapshot };
        frame(&cursor, self.head.max(position), content)
    }
}

fn full_name(data: &Any) -> &str {
    data.type_url.rsplit('/').next().unwrap_or_default()
}

//! Follows one operation: reads its history in order, to its end.

use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use mesh_feed::cursor::SubjectCursor;
use mesh_feed::notifier::Key;
use mesh_feed::reader::{Page, Tail};
use mesh_feed::recent::Event;
use mesh_feed::stream::{Follow, Then, stream};
use mesh_proto::google::longrunning::Operation;
use mesh_proto::mesh::operations::v1::{Change, Gap, Heartbeat, Progress, WatchResponse, watch_response};
use prost::Message as _;
use tonic::Status;
use uuid::Uuid;

use super::operations::Operations;
use super::row::Row;
use super::sources::History;

/// The options of a watch.
pub(super) struct WatchOptions {
    pub(super) cursor: Option<SubjectCursor>,
    pub(super) heartbeat: Option<Duration>,
    pub(super) progress: Progress,
}

/// One stream.
struct Watcher {
    history: Tail<History>,
    progress: Progress,
    done: bool,
}

/// Follows an operation. `row` is its current state, and `now` the message of it.
pub(super) fn watch(
    operations: Operations,
    epoch: Uuid,
    row: &Row,
    now: Operation,
    options: WatchOptions,
) -> impl Stream<Item = Result<Bytes, Status>> + Send + use<> {
    let Operations { records, watchdog, histories, .. } = operations;
    let (key, notifier) = (Key::Subject(row.caller.clone(), row.id), records.notifier.clone());
    let history = History { records, caller: row.caller.clone(), id: row.id, epoch };
    let history = histories.tail(key, history, row.revision, row.revision, &notifier);
    let mut watcher = Watcher { history, progress: options.progress, done: false };
    let begin = match options.cursor {
        // Of another epoch, or ahead of the database: a backup was restored.
        Some(cursor) if cursor.epoch != epoch || cursor.revision > row.revision => watcher.gap(row, now),
        // A client that resumes after the end gets the end again: OK alone carries no operation.
        Some(cursor) if cursor.revision < row.revision || !row.is_done() => {
            watcher.history.number = cursor.revision;
            Vec::new()
        }
        _ => vec![watcher.snapshot(row, now)],
    };
    stream(watcher, begin, options.heartbeat, &watchdog)
}

impl Follow for Watcher {
    type Frame = Bytes;

    async fn read(&mut self) -> Result<(Vec<Bytes>, Then), Status> {
        if self.done {
            return Ok((Vec::new(), Then::End));
        }
        let (events, more) = match self.history.next().await? {
            Page::Events(events, more) => (events, more),
            // So the current state of the operation is sent.
            Page::Gone => {
                let (row, now) = self.history.source().current().await?;
                return Ok((self.gap(&row, now), Then::Read));
            }
        };
        let Some(newest) = events.last().map(|event| event.number) else {
            return Ok((Vec::new(), if more { Then::Read } else { Then::Wait }));
        };
        self.history.number = newest;
        self.done = events.iter().any(|event| event.done);
        let wanted = events.iter().filter(|event| self.wants(event, newest));
        let frames = wanted.map(|event| event.frame.clone()).collect();
        Ok((frames, if more || self.done { Then::Read } else { Then::Wait }))
    }

    async fn more(&mut self) {
        self.history.more().await;
    }

    fn heartbeat(&self) -> Bytes {
        // An operation that is quiet for so long keeps none of its events in memory.
        self.history.forget();
        self.history.source().frame(self.history.number, watch_response::Event::Heartbeat(Heartbeat {}))
    }
}

impl Watcher {
    fn wants(&self, event: &Event, newest: i64) -> bool {
        match self.progress {
            Progress::All => true,
            Progress::TerminalOnly => event.done,
            // An unknown change counts as a change of state, so that it is never left out.
            Progress::Unspecified => event.change != i32::from(Change::Progress) || event.number == newest,
        }
    }

    /// The cursor of the gap is empty: a client that disconnects behind the gap resumes with the snapshot.
    fn gap(&mut self, row: &Row, now: Operation) -> Vec<Bytes> {
        let gap = WatchResponse { cursor: Vec::new(), event: Some(watch_response::Event::Gap(Gap {})) };
        vec![gap.encode_to_vec().into(), self.snapshot(row, now)]
    }

    fn snapshot(&mut self, row: &Row, now: Operation) -> Bytes {
        self.history.number = row.revision;
        self.done = row.is_done();
        self.history.source().frame(row.revision, watch_response::Event::Snapshot(now))
    }
}

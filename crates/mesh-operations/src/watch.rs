//! Follows one operation: reads its history in order, to its end.

use std::time::Duration;

use futures_util::Stream;
use mesh_feed::cursor::SubjectCursor;
use mesh_feed::log::{self, Event, PAGE};
use mesh_feed::notifier::Key;
use mesh_feed::stream::{Follow, Then, finish, stream};
use mesh_proto::google::longrunning::Operation;
use mesh_proto::mesh::operations::v1::{Change, Gap, Heartbeat, Progress, WatchResponse, watch_response};
use mesh_rpc::call::Caller;
use tonic::Status;
use uuid::Uuid;

use super::operations::Operations;
use super::row::Row;
use super::{name, storage};

/// The options of a watch.
pub(super) struct WatchOptions {
    pub(super) cursor: Option<SubjectCursor>,
    pub(super) heartbeat: Option<Duration>,
    pub(super) progress: Progress,
}

/// One stream.
struct Watcher {
    operations: Operations,
    caller: Caller,
    id: Uuid,
    epoch: Uuid,
    /// The last revision that was read.
    revision: i64,
    /// The operation's revision at the start of the watch. Rows up to here that cannot be read were deleted.
    known: i64,
    progress: Progress,
    done: bool,
}

/// Follows an operation. `row` is its current state.
pub(super) fn watch(
    operations: Operations,
    epoch: Uuid,
    row: &Row,
    options: WatchOptions,
) -> impl Stream<Item = Result<WatchResponse, Status>> + Send + use<> {
    let listener = operations.records.notifier.listen(Key::Subject(row.caller.clone(), row.id));
    let watchdog = operations.watchdog.clone();
    let mut watcher = Watcher {
        operations,
        caller: row.caller.clone(),
        id: row.id,
        epoch,
        revision: 0,
        known: row.revision,
        progress: options.progress,
        done: false,
    };
    let begin = match options.cursor {
        // Of another epoch, or ahead of the database: a backup was restored.
        Some(cursor) if cursor.epoch != epoch || cursor.revision > row.revision => watcher.gap(row),
        // A client that resumes after the end gets the end again: OK alone carries no operation.
        Some(cursor) if cursor.revision < row.revision || !row.is_done() => {
            watcher.revision = cursor.revision;
            Vec::new()
        }
        _ => vec![watcher.snapshot(row)],
    };
    stream(watcher, begin, listener, options.heartbeat, &watchdog)
}

impl Follow for Watcher {
    type Frame = WatchResponse;

    async fn read(&mut self) -> Result<(Vec<WatchResponse>, Then), Status> {
        if self.done {
            return Ok((Vec::new(), Then::End));
        }
        let (store, id, revision) = (self.operations.records.store.clone(), self.id, self.revision);
        let events = finish(async move { log::events::<Operation>(store.reader(), id, revision).await }).await?;
        let whole = match events.first() {
            Some(first) => first.revision == self.revision + 1,
            None => self.revision >= self.known,
        };
        if !whole {
            // The missing rows were deleted, so the current state of the operation is sent.
            let (store, caller) = (self.operations.records.store.clone(), self.caller.clone());
            let row = finish(async move { storage::get(store.reader(), &caller, id).await }).await?;
            let row = row.ok_or_else(|| name::unknown(&name::format(self.operations.records.service, id)))?;
            return Ok((self.gap(&row), Then::Read));
        }
        let (newest, count) = (events.last().map(|event| event.revision), events.len());
        let mut frames = Vec::new();
        for event in events {
            self.revision = event.revision;
            self.done |= event.value.done;
            if self.wanted(&event, newest) {
                frames.push(self.frame(watch_response::Event::Update(event.value)));
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
    fn wanted(&self, event: &Event<Operation>, newest: Option<i64>) -> bool {
        match self.progress {
            Progress::All => true,
            Progress::TerminalOnly => event.value.done,
            // An unknown change counts as a change of state, so that it is never left out.
            Progress::Unspecified => event.change != i32::from(Change::Progress) || Some(event.revision) == newest,
        }
    }

    /// The cursor of the gap is empty: a client that disconnects behind the gap resumes with the snapshot.
    fn gap(&mut self, row: &Row) -> Vec<WatchResponse> {
        let gap = WatchResponse { cursor: Vec::new(), event: Some(watch_response::Event::Gap(Gap {})) };
        vec![gap, self.snapshot(row)]
    }

    fn snapshot(&mut self, row: &Row) -> WatchResponse {
        self.revision = row.revision;
        self.known = row.revision;
        self.done = row.is_done();
        self.frame(watch_response::Event::Snapshot(row.to_operation(self.operations.records.service)))
    }

    fn frame(&self, event: watch_response::Event) -> WatchResponse {
        let cursor = SubjectCursor { epoch: self.epoch, subject: self.id, revision: self.revision };
        WatchResponse { cursor: cursor.to_bytes(), event: Some(event) }
    }
}

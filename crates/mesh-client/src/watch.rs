//! Follows one operation to its end.

use std::time::Duration;

use mesh_proto::google::longrunning::Operation;
use mesh_proto::mesh::operations::v1::operation_events_service_client::OperationEventsServiceClient;
use mesh_proto::mesh::operations::v1::{Progress, WatchRequest, WatchResponse, watch_response};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::channel::GrpcChannel;
use super::resume::{LARGEST, heartbeat};
use super::resuming::{Resuming, Subscribe};

/// Follows one operation to its end: each change of its state and the latest progress, in order and once.
#[derive(Debug)]
pub struct OperationWatch<C> {
    frames: Resuming<Watched<C>, WatchResponse>,
    first: Option<WatchFrame>,
    is_done: bool,
}

/// A frame of an [`OperationWatch`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchFrame {
    /// Another watch begins behind this frame with it.
    pub cursor: Vec<u8>,
    /// The operation after a change; `None` for a heartbeat.
    pub operation: Option<Operation>,
}

#[derive(Debug)]
struct Watched<C> {
    client: OperationEventsServiceClient<C>,
    request: WatchRequest,
}

impl<C: GrpcChannel> Subscribe for Watched<C> {
    type Frame = WatchResponse;

    async fn open(&mut self, cursor: Vec<u8>) -> Result<Streaming<WatchResponse>, Status> {
        let request = WatchRequest { cursor, ..self.request.clone() };
        Ok(self.client.watch(request).await?.into_inner())
    }

    fn cursor(frame: &WatchResponse) -> &[u8] {
        &frame.cursor
    }
}

impl<C: GrpcChannel> OperationWatch<C> {
    /// Follows the operation with this name, such as `services/artwork/operations/…`.
    pub fn new(channel: C, name: impl Into<String>) -> Self {
        let client = OperationEventsServiceClient::new(channel).max_decoding_message_size(LARGEST);
        let request = WatchRequest { name: name.into(), heartbeat: Some(heartbeat()), ..WatchRequest::default() };
        Self { frames: Resuming::new(Watched { client, request }, Vec::new()), first: None, is_done: false }
    }

    /// Begins behind a cursor. An empty one begins with the operation as it is.
    #[must_use]
    pub fn after(mut self, cursor: Vec<u8>) -> Self {
        self.frames.cursor = cursor;
        self
    }

    /// Follows its end only.
    #[must_use]
    pub fn terminal_only(mut self) -> Self {
        self.frames.source.request.progress = Progress::TerminalOnly.into();
        self
    }

    /// Waits for the first frame, at most for `limit`, and keeps it for the methods below. A program that passes the
    /// frames on learns so that the operation does not exist, before it answers.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub async fn open(&mut self, limit: Duration) -> Result<(), Status> {
        if let Ok(first) = timeout(limit, self.frame()).await {
            self.first = first?;
        }
        Ok(())
    }

    /// Waits for the next frame: a change, or a heartbeat, which comes at least every 10 s while the server is there.
    /// `None` behind the end.
    ///
    /// The future may be dropped at any time, and the method called again.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub async fn frame(&mut self) -> Result<Option<WatchFrame>, Status> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        if self.is_done {
            return Ok(None);
        }
        // Nothing but the end of the operation ends the stream with OK.
        let Some(WatchResponse { cursor, event }) = self.frames.next_or_end().await? else {
            self.is_done = true;
            return Ok(None);
        };
        let operation = match event {
            Some(watch_response::Event::Snapshot(operation) | watch_response::Event::Update(operation)) => {
                Some(operation)
            }
            _ => None,
        };
        self.is_done = operation.as_ref().is_some_and(|operation| operation.done);
        Ok(Some(WatchFrame { cursor, operation }))
    }

    /// Waits for the next change, without a limit, also while the server is unavailable. The first one is the operation
    /// as it is; the last one is done, and then there is `None`.
    ///
    /// The future may be dropped at any time, and the method called again.
    ///
    /// # Errors
    ///
    /// A failure that a retry cannot repair: NOT_FOUND (unknown or expired), INVALID_ARGUMENT (no operation's name),
    /// PERMISSION_DENIED, UNAUTHENTICATED, FAILED_PRECONDITION, UNIMPLEMENTED (not a server of this kind), OUT_OF_RANGE
    /// (more than 16 MiB).
    pub async fn next(&mut self) -> Result<Option<Operation>, Status> {
        while let Some(frame) = self.frame().await? {
            if frame.operation.is_some() {
                return Ok(frame.operation);
            }
        }
        Ok(None)
    }
}

/// Follows the operation `name` until it is done, and returns it with its response or error. `on_update` gets each
/// change of its state and the latest progress, in order and once.
///
/// It waits without a limit, also while the server is unavailable: put a [`tokio::time::timeout`] around it to limit
/// the time. The future may be dropped at any time.
///
/// # Errors
///
/// As [`OperationWatch::next`].
pub async fn watch_until_done<C: GrpcChannel>(
    channel: C,
    name: &str,
    mut on_update: impl FnMut(&Operation),
) -> Result<Operation, Status> {
    let mut watch = OperationWatch::new(channel, name);
    let mut last = Operation::default();
    while let Some(operation) = watch.next().await? {
        on_update(&operation);
        last = operation;
    }
    Ok(last)
}

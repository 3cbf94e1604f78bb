//! A client of the generated code that retries: it repeats failed requests with the same id, and resumes streams by
//! their cursor. It records every message before it uses it.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contracts::artwork::v1::RenderArtworkRequest;
use contracts::artwork::v1::artwork_service_client::ArtworkServiceClient;
use contracts::google::longrunning::operations_client::OperationsClient;
use contracts::google::longrunning::{CancelOperationRequest, Operation};
use contracts::mesh::operations::v1::operation_events_service_client::OperationEventsServiceClient;
use contracts::mesh::operations::v1::watch_response::Event;
use contracts::mesh::operations::v1::{OperationMetadata, Progress, WatchRequest};
use harness::uuid;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::recorder::Recorder;

/// The pause between a failure and the next attempt.
const PAUSE: Duration = Duration::from_millis(20);

/// A client of one address. Cheap to clone.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) channel: Channel,
    title_id: String,
    image: Vec<u8>,
    recorder: Recorder,
    /// Whether connections may break in the middle of a call.
    breaks: bool,
}

impl Caller {
    pub(super) fn new(address: SocketAddr, title_id: &str, image: &[u8], recorder: &Recorder) -> Self {
        let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
        let (title_id, image, recorder) = (title_id.to_owned(), image.to_owned(), recorder.clone());
        Self { channel, title_id, image, recorder, breaks: true }
    }

    /// Accepts only UNAVAILABLE, and a connection that closed before the call was sent, which tonic's clients report as
    /// CANCELLED.
    pub(super) fn strict(self) -> Self {
        Self { breaks: false, ..self }
    }

    /// Renders another picture.
    pub(super) fn with_image(self, image: &[u8]) -> Self {
        Self { image: image.to_owned(), ..self }
    }

    /// The request with this id.
    pub(super) fn request(&self, request_id: &str) -> RenderArtworkRequest {
        let (title_id, image) = (self.title_id.clone(), self.image.clone());
        RenderArtworkRequest { request_id: request_id.to_owned(), title_id, image }
    }

    /// Sends one request; returns the operation's name.
    pub(super) async fn try_start(&self, request_id: &str) -> Result<String, Status> {
        self.recorder.asks(request_id);
        let request = self.request(request_id);
        let operation = ArtworkServiceClient::new(self.channel.clone()).render_artwork(request).await?;
        let name = operation.into_inner().name;
        self.recorder.acknowledged(request_id, &name);
        Ok(name)
    }

    /// Repeats the request until it succeeds.
    pub(super) async fn start(&self, request_id: &str) -> String {
        loop {
            match self.try_start(request_id).await {
                Ok(name) => return name,
                Err(status) => self.accept_failure(status).await,
            }
        }
    }

    /// Cancels an operation; repeats the request until it succeeds.
    pub(super) async fn cancel(&self, name: &str) {
        self.recorder.cancels(name);
        loop {
            let request = CancelOperationRequest { name: name.to_owned() };
            match OperationsClient::new(self.channel.clone()).cancel_operation(request).await {
                Ok(_) => return,
                Err(status) => self.accept_failure(status).await,
            }
        }
    }

    /// Watches an operation with all progress until its end, and resumes by the cursor.
    pub(super) async fn follow(&self, name: &str) -> Operation {
        let (mut cursor, follower) = (Vec::new(), self.recorder.follows(true));
        loop {
            match self.follow_once(name, follower, &mut cursor).await {
                Ok(end) => return end,
                Err(status) => self.accept_failure(status).await,
            }
        }
    }

    async fn follow_once(&self, name: &str, follower: u64, cursor: &mut Vec<u8>) -> Result<Operation, Status> {
        let (name, progress) = (name.to_owned(), Progress::All.into());
        let request = WatchRequest { name, progress, cursor: cursor.clone(), heartbeat: None };
        let mut events = OperationEventsServiceClient::new(self.channel.clone());
        let mut stream = events.watch(request).await?.into_inner();
        let mut end = None;
        while let Some(frame) = stream.message().await? {
            match frame.event {
                Some(Event::Snapshot(operation) | Event::Update(operation)) => {
                    self.recorder.sees(follower, &operation);
                    end = Some(operation).filter(|operation| operation.done);
                }
                Some(Event::Heartbeat(_)) => {}
                other => panic!("{other:?}"),
            }
            *cursor = frame.cursor;
            // The stream may break after the end, which no longer matters.
            if let Some(end) = end {
                return Ok(end);
            }
        }
        panic!("the stream ended with OK before the operation");
    }

    /// Watches an operation by `mesh_client::watch_until_done`, which hides all failures.
    pub(super) async fn follow_until_done(&self, name: &str) -> Operation {
        let follower = self.recorder.follows(false);
        let seen = |operation: &Operation| self.recorder.sees(follower, operation);
        let end = mesh_client::watch_until_done(self.channel.clone(), name, seen).await;
        end.unwrap_or_else(|status| panic!("watch_until_done failed: {status:?}"))
    }

    /// Starts operations one after the other and watches each to its end, until `enough` is set.
    pub(super) async fn run_until(self, helped: bool, enough: Arc<AtomicBool>) {
        while !enough.load(Ordering::Relaxed) {
            let name = self.start(&uuid()).await;
            if helped {
                self.follow_until_done(&name).await;
            } else {
                self.follow(&name).await;
            }
        }
    }

    /// Accepts a failure that the fault may cause, and pauses; panics on any other.
    pub(super) async fn accept_failure(&self, status: Status) {
        // A status with a source comes from this side: the server sent none. tonic's client reports a connection that
        // the server closed properly as CANCELLED or UNKNOWN.
        let closed = matches!(status.code(), Code::Cancelled | Code::Unknown);
        let broken = status.source().is_some() && (self.breaks || closed);
        assert!(broken || status.code() == Code::Unavailable, "{status:?}");
        tokio::time::sleep(PAUSE).await;
    }
}

pub(super) fn metadata(operation: &Operation) -> OperationMetadata {
    operation.metadata.as_ref().expect("metadata").to_msg().expect("OperationMetadata")
}

//! A client of the generated code that does not give up: it repeats what broke, under the same id, and resumes streams by
//! their cursor. Whatever it sees, the recorder has first.

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

/// Between a failure and the next attempt.
const PAUSE: Duration = Duration::from_millis(20);

/// One client, at one address. Cheap to clone.
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

    /// Takes nothing for an excuse but UNAVAILABLE, or a connection that ended well before the call was sent, for which
    /// tonic's clients have their own word: CANCELLED.
    pub(super) fn strict(self) -> Self {
        Self { breaks: false, ..self }
    }

    /// With another picture.
    pub(super) fn with_image(self, image: &[u8]) -> Self {
        Self { image: image.to_owned(), ..self }
    }

    /// What it asks for under this id.
    pub(super) fn request(&self, request_id: &str) -> RenderArtworkRequest {
        let (title_id, image) = (self.title_id.clone(), self.image.clone());
        RenderArtworkRequest { request_id: request_id.to_owned(), title_id, image }
    }

    /// Asks once; the operation's name.
    pub(super) async fn try_start(&self, request_id: &str) -> Result<String, Status> {
        self.recorder.asks(request_id);
        let request = self.request(request_id);
        let operation = ArtworkServiceClient::new(self.channel.clone()).render_artwork(request).await?;
        let name = operation.into_inner().name;
        self.recorder.told(request_id, &name);
        Ok(name)
    }

    /// Asks until there is an answer.
    pub(super) async fn start(&self, request_id: &str) -> String {
        loop {
            match self.try_start(request_id).await {
                Ok(name) => return name,
                Err(status) => self.bear(status).await,
            }
        }
    }

    /// Asks it to stop until there is an answer.
    pub(super) async fn cancel(&self, name: &str) {
        self.recorder.cancels(name);
        loop {
            let request = CancelOperationRequest { name: name.to_owned() };
            match OperationsClient::new(self.channel.clone()).cancel_operation(request).await {
                Ok(_) => return,
                Err(status) => self.bear(status).await,
            }
        }
    }

    /// Follows all that is told of an operation to its end, by the cursor and nothing else.
    pub(super) async fn follow(&self, name: &str) -> Operation {
        let (mut cursor, follower) = (Vec::new(), self.recorder.follows(true));
        loop {
            match self.follow_once(name, follower, &mut cursor).await {
                Ok(end) => return end,
                Err(status) => self.bear(status).await,
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
            // A stream that breaks behind the end has told all there is.
            if let Some(end) = end {
                return Ok(end);
            }
        }
        panic!("OK, and not the end");
    }

    /// Follows it by the helper that clients use, which shows no fault to anybody.
    pub(super) async fn follow_with_help(&self, name: &str) -> Operation {
        let follower = self.recorder.follows(false);
        let told = |operation: &Operation| self.recorder.sees(follower, operation);
        let end = mesh_client::watch_until_done(self.channel.clone(), name, told).await;
        end.unwrap_or_else(|status| panic!("the helper shows {status:?}"))
    }

    /// Starts one after the other and follows each to its end, by the helper or without, until it is enough.
    pub(super) async fn keep_on(self, helped: bool, enough: Arc<AtomicBool>) {
        while !enough.load(Ordering::Relaxed) {
            let name = self.start(&uuid()).await;
            if helped {
                self.follow_with_help(&name).await;
            } else {
                self.follow(&name).await;
            }
        }
    }

    /// Goes on after a failure that may be, a moment later.
    pub(super) async fn bear(&self, status: Status) {
        // A status with a source was made on this side: there was none from the other. A connection that closes well,
        // as one does that was asked to, is CANCELLED or UNKNOWN in the words of tonic's client.
        let closed = matches!(status.code(), Code::Cancelled | Code::Unknown);
        let broken = status.source().is_some() && (self.breaks || closed);
        assert!(broken || status.code() == Code::Unavailable, "{status:?}");
        tokio::time::sleep(PAUSE).await;
    }
}

pub(super) fn metadata(operation: &Operation) -> OperationMetadata {
    operation.metadata.as_ref().expect("metadata").to_msg().expect("OperationMetadata")
}

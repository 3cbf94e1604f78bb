//! Follows all operations of a caller at one service.

use mesh_proto::mesh::operations::v1::operation_events_service_client::OperationEventsServiceClient;
use mesh_proto::mesh::operations::v1::{SubscribeRequest, SubscribeResponse};
use tonic::{Status, Streaming};

use super::channel::GrpcChannel;
use super::resume::{LARGEST, heartbeat};
use super::resuming::{Resuming, Subscribe};

/// Follows all operations of a caller at one service, without an end.
///
/// Store the cursor of each frame, heartbeats included, in the same transaction as the effects of the frame. A
/// restarted process that resumes with the stored cursor then misses no event and applies none twice.
///
/// ```no_run
/// # use mesh_client::Subscription;
/// # async fn apply(_: mesh_proto::mesh::operations::v1::SubscribeResponse) {}
/// # async fn follow(channel: tonic::transport::Channel, stored: Vec<u8>) -> Result<(), tonic::Status> {
/// let mut subscription = Subscription::new(channel, "services/artwork", stored);
/// loop {
///     apply(subscription.next().await?).await;
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Subscription<C>(Resuming<Operations<C>, SubscribeResponse>);

#[derive(Debug)]
struct Operations<C> {
    client: OperationEventsServiceClient<C>,
    request: SubscribeRequest,
}

impl<C: GrpcChannel> Subscribe for Operations<C> {
    type Frame = SubscribeResponse;

    async fn open(&mut self, cursor: Vec<u8>) -> Result<Streaming<SubscribeResponse>, Status> {
        let request = SubscribeRequest { cursor, ..self.request.clone() };
        Ok(self.client.subscribe(request).await?.into_inner())
    }

    fn cursor(frame: &SubscribeResponse) -> &[u8] {
        &frame.cursor
    }
}

impl<C: GrpcChannel> Subscription<C> {
    /// Follows `parent`, such as `services/artwork`, behind a cursor. An empty cursor begins with a snapshot of the
    /// operations that are not done.
    pub fn new(channel: C, parent: impl Into<String>, cursor: Vec<u8>) -> Self {
        let (parent, heartbeat) = (parent.into(), Some(heartbeat()));
        let request = SubscribeRequest { parent, heartbeat, ..SubscribeRequest::default() };
        let client = OperationEventsServiceClient::new(channel).max_decoding_message_size(LARGEST);
        Self(Resuming::new(Operations { client, request }, cursor))
    }

    /// Follows only these kinds of work, such as `RenderArtwork`; all kinds if empty.
    #[must_use]
    pub fn kinds<K: Into<String>>(mut self, kinds: impl IntoIterator<Item = K>) -> Self {
        self.0.source.request.kinds = kinds.into_iter().map(Into::into).collect();
        self
    }

    /// Sends only events that end an operation.
    #[must_use]
    pub fn terminal_only(mut self) -> Self {
        self.0.source.request.terminal_only = true;
        self
    }

    /// Waits for the next frame, without a limit, also while the server is unavailable. A call confirms that the frame
    /// before it is applied: a resumed stream does not repeat that frame. A resumed stream sends `caught_up` again.
    ///
    /// The future may be dropped at any time, and the method called again.
    ///
    /// # Errors
    ///
    /// A failure that a retry cannot repair: NOT_FOUND (no such service), INVALID_ARGUMENT (not a cursor of this kind),
    /// PERMISSION_DENIED, UNAUTHENTICATED, FAILED_PRECONDITION, UNIMPLEMENTED (not a server of this kind), OUT_OF_RANGE
    /// (more than 16 MiB).
    pub async fn next(&mut self) -> Result<SubscribeResponse, Status> {
        self.0.next().await
    }
}

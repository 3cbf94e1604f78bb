//! Follows all operations of a caller at one service.

use mesh_proto::mesh::operations::v1::operation_events_service_client::OperationEventsServiceClient;
use mesh_proto::mesh::operations::v1::{SubscribeRequest, SubscribeResponse};
use tokio::time::{sleep, timeout};
use tonic::{Status, Streaming};

use super::channel::GrpcChannel;
use super::resume::{LARGEST, SILENCE, heartbeat, is_final, pause, silent};

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
pub struct Subscription<C> {
    events: OperationEventsServiceClient<C>,
    /// The request of the next stream.
    request: SubscribeRequest,
    stream: Option<Streaming<SubscribeResponse>>,
    failures: u32,
}

impl<C: GrpcChannel> Subscription<C> {
    /// Follows `parent`, such as `services/artwork`, behind a cursor. An empty cursor begins with a snapshot of the
    /// operations that are not done.
    pub fn new(channel: C, parent: impl Into<String>, cursor: Vec<u8>) -> Self {
        let (parent, heartbeat) = (parent.into(), Some(heartbeat()));
        let request = SubscribeRequest { parent, cursor, heartbeat, ..SubscribeRequest::default() };
        let events = OperationEventsServiceClient::new(channel).max_decoding_message_size(LARGEST);
        Self { events, request, stream: None, failures: 0 }
    }

    /// Follows only these kinds of work, such as `RenderArtwork`; all kinds if empty.
    #[must_use]
    pub fn kinds<K: Into<String>>(mut self, kinds: impl IntoIterator<Item = K>) -> Self {
        self.request.kinds = kinds.into_iter().map(Into::into).collect();
        self
    }

    /// Sends only events that end an operation.
    #[must_use]
    pub fn terminal_only(mut self) -> Self {
        self.request.terminal_only = true;
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
        loop {
            match self.try_next().await {
                Ok(frame) => {
                    if self.request.cursor != frame.cursor {
                        self.failures = 0;
                        self.request.cursor.clone_from(&frame.cursor);
                    }
                    return Ok(frame);
                }
                Err(status) if is_final(status.code()) => return Err(status),
                Err(status) => {
                    self.stream = None;
                    self.failures += 1;
                    let pause = pause(&status, self.failures);
                    sleep(pause).await;
                }
            }
        }
    }

    /// The next frame of the current stream, or of a new one if there is none.
    async fn try_next(&mut self) -> Result<SubscribeResponse, Status> {
        if self.stream.is_none() {
            let stream = timeout(SILENCE, self.events.subscribe(self.request.clone())).await.map_err(silent)??;
            self.stream = Some(stream.into_inner());
        }
        let broken = || Status::unavailable("the stream ended");
        let stream = self.stream.as_mut().ok_or_else(broken)?;
        timeout(SILENCE, stream.message()).await.map_err(silent)??.ok_or_else(broken)
    }
}

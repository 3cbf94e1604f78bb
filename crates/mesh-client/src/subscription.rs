//! Everything that a caller has at one service.

use mesh_proto::mesh::operations::v1::operation_events_service_client::OperationEventsServiceClient;
use mesh_proto::mesh::operations::v1::{SubscribeRequest, SubscribeResponse};
use tokio::time::{sleep, timeout};
use tonic::{Status, Streaming};

use super::channel::Channel;
use super::resume::{LARGEST, SILENCE, heartbeat, is_final, pause, silent};

/// Follows everything that a caller has at one service, for as long as it is asked for more.
///
/// Store the cursor of each frame with what you have made of it, in one transaction if you can, heartbeats included:
/// then a process that begins anew with what it has stored misses nothing and does nothing twice.
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
    /// What is asked for when the stream breaks.
    request: SubscribeRequest,
    stream: Option<Streaming<SubscribeResponse>>,
    failures: u32,
}

impl<C: Channel> Subscription<C> {
    /// Follows `parent`, such as `services/artwork`, from a cursor on; an empty one begins with what is not done.
    pub fn new(channel: C, parent: impl Into<String>, cursor: Vec<u8>) -> Self {
        let (parent, heartbeat) = (parent.into(), Some(heartbeat()));
        let request = SubscribeRequest { parent, cursor, heartbeat, ..SubscribeRequest::default() };
        let events = OperationEventsServiceClient::new(channel).max_decoding_message_size(LARGEST);
        Self { events, request, stream: None, failures: 0 }
    }

    /// Only these kinds of work, such as `RenderArtwork`; all of them if there are none.
    #[must_use]
    pub fn kinds<K: Into<String>>(mut self, kinds: impl IntoIterator<Item = K>) -> Self {
        self.request.kinds = kinds.into_iter().map(Into::into).collect();
        self
    }

    /// Of the events, only the ends of operations.
    #[must_use]
    pub fn terminal_only(mut self) -> Self {
        self.request.terminal_only = true;
        self
    }

    /// The next frame. Asking for it says that the one before is applied: after a failure it is not given again. A
    /// stream that was resumed says once more when it has caught up.
    ///
    /// It waits for as long as it takes, also for a server that is away. It may be dropped at any time, and asked
    /// again.
    ///
    /// # Errors
    ///
    /// What no retry mends: NOT_FOUND (no such service), INVALID_ARGUMENT (not a cursor of this kind), PERMISSION_DENIED,
    /// UNAUTHENTICATED, FAILED_PRECONDITION, UNIMPLEMENTED (not a server of this kind), OUT_OF_RANGE (more than 16 MiB).
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

    /// The next frame of the stream there is, or else of a new one.
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

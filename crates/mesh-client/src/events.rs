//! Follows the events of one service.

use mesh_proto::mesh::events::v1::events_service_client::EventsServiceClient;
use mesh_proto::mesh::events::v1::{SubscribeRequest, SubscribeResponse};
use tonic::{Status, Streaming};

use super::channel::GrpcChannel;
use super::resume::{LARGEST, heartbeat};
use super::resuming::{Resuming, Subscribe};

/// Follows the events of one service, without an end.
///
/// A service keeps a copy of another's data with `Service::follows`, which stores the cursors. This is for other
/// programs: they store the cursor of each frame, heartbeats included, with the effects of the frame.
#[derive(Debug)]
pub struct EventSubscription<C>(Resuming<Events<C>, SubscribeResponse>);

#[derive(Debug)]
struct Events<C> {
    client: EventsServiceClient<C>,
    request: SubscribeRequest,
}

impl<C: GrpcChannel> Subscribe for Events<C> {
    type Frame = SubscribeResponse;

    async fn open(&mut self, cursor: Vec<u8>) -> Result<Streaming<SubscribeResponse>, Status> {
        let request = SubscribeRequest { cursor, ..self.request.clone() };
        Ok(self.client.subscribe(request).await?.into_inner())
    }

    fn cursor(frame: &SubscribeResponse) -> &[u8] {
        &frame.cursor
    }
}

impl<C: GrpcChannel> EventSubscription<C> {
    /// Follows `source`, such as `catalog`, behind a cursor. An empty cursor begins with a snapshot.
    pub fn new(channel: C, source: impl Into<String>, cursor: Vec<u8>) -> Self {
        let client = EventsServiceClient::new(channel).max_decoding_message_size(LARGEST);
        let (source, heartbeat) = (source.into(), Some(heartbeat()));
        let request = SubscribeRequest { source, heartbeat, ..SubscribeRequest::default() };
        Self(Resuming::new(Events { client, request }, cursor))
    }

    /// Follows only events of these types, such as `catalog.v1.TitleAdded`; all types if empty.
    #[must_use]
    pub fn types<T: Into<String>>(mut self, types: impl IntoIterator<Item = T>) -> Self {
        self.0.source.request.types = types.into_iter().map(Into::into).collect();
        self
    }

    /// As [`Subscription::next`](super::Subscription::next).
    ///
    /// # Errors
    ///
    /// The same.
    pub async fn next(&mut self) -> Result<SubscribeResponse, Status> {
        self.0.next().await
    }
}

//! One stream of the events of a source, read in batches.

use std::time::Duration;

use mesh_client::resume::{LARGEST, SILENCE, heartbeat, silent};
use mesh_proto::mesh::events::v1::events_service_client::EventsServiceClient;
use mesh_proto::mesh::events::v1::subscribe_response::Frame;
use mesh_proto::mesh::events::v1::{SubscribeRequest, SubscribeResponse};
use mesh_rpc::client::Channel;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Status, Streaming};

use super::seen::Seen;

/// The most frames of a batch.
pub(super) const BATCH: usize = 256;
/// The longest wait for the rest of a batch.
const WAIT: Duration = Duration::from_millis(5);

/// A stream of the events behind a cursor.
pub(super) struct Stream {
    frames: Streaming<SubscribeResponse>,
    seen: Seen,
    /// The end of the stream, behind a batch.
    ended: Option<Status>,
}

impl Stream {
    /// Begins to read behind a cursor.
    pub(super) async fn open(channel: Channel, source: &str, cursor: Vec<u8>, seen: Seen) -> Result<Self, Status> {
        let (source, heartbeat) = (source.to_owned(), Some(heartbeat()));
        let request = SubscribeRequest { source, cursor, types: Vec::new(), heartbeat };
        let mut events = EventsServiceClient::new(channel).max_decoding_message_size(LARGEST);
        let frames = timeout(SILENCE, events.subscribe(request)).await.map_err(silent)??.into_inner();
        Ok(Self { frames, seen, ended: None })
    }

    /// Waits for frames, and returns those that have arrived: more than one only while the source has more.
    ///
    /// A future that is dropped may lose frames: the stream is of no use then.
    pub(super) async fn batch(&mut self) -> Result<Vec<SubscribeResponse>, Status> {
        let first = match self.ended.take() {
            Some(status) => return Err(status),
            None => self.next().await?,
        };
        let until = Instant::now() + WAIT;
        let mut more = has_more(&first);
        let mut batch = vec![first];
        while more && batch.len() < BATCH {
            match timeout_at(until, self.next()).await {
                Ok(Ok(frame)) => {
                    more = has_more(&frame);
                    batch.push(frame);
                }
                Ok(Err(status)) => {
                    self.ended = Some(status);
                    break;
                }
                Err(_) => break,
            }
        }
        Ok(batch)
    }

    /// The next frame that is no heartbeat.
    async fn next(&mut self) -> Result<SubscribeResponse, Status> {
        loop {
            let frame = timeout(SILENCE, self.frames.message()).await.map_err(silent)??;
            let frame = frame.ok_or_else(|| Status::unavailable("the stream ended"))?;
            self.seen.hear(frame.head);
            if !matches!(frame.frame, Some(Frame::Heartbeat(_))) {
                return Ok(frame);
            }
        }
    }
}

/// Whether the source had more frames when it sent this one.
fn has_more(response: &SubscribeResponse) -> bool {
    match &response.frame {
        Some(Frame::Event(event)) => event.position < response.head,
        Some(Frame::Snapshot(_) | Frame::Reset(_)) => true,
        Some(Frame::CaughtUp(_) | Frame::Heartbeat(_)) | None => false,
    }
}

//! One operation, to its end.

use mesh_proto::google::longrunning::Operation;
use mesh_proto::mesh::operations::v1::operation_events_service_client::OperationEventsServiceClient;
use mesh_proto::mesh::operations::v1::{WatchRequest, watch_response};
use tokio::time::{sleep, timeout};
use tonic::Status;

use super::channel::Channel;
use super::resume::{LARGEST, SILENCE, heartbeat, is_final, pause, silent};

/// Follows the operation `name` until it is done, and gives it as it is then; `on_update` sees every change of
/// its state and the latest progress, in order and once. Whether it succeeded is in the operation.
///
/// It waits for as long as it takes, also for a server that is away: put a [`tokio::time::timeout`] around it to bound
/// that. It may be dropped at any time.
///
/// # Errors
///
/// What no retry mends: NOT_FOUND (unknown or expired), INVALID_ARGUMENT (no operation's name), PERMISSION_DENIED,
/// UNAUTHENTICATED, FAILED_PRECONDITION, UNIMPLEMENTED (not a server of this kind), OUT_OF_RANGE (more than 16 MiB).
pub async fn watch_until_done<C: Channel>(
    channel: C,
    name: &str,
    mut on_update: impl FnMut(&Operation),
) -> Result<Operation, Status> {
    let mut events = OperationEventsServiceClient::new(channel).max_decoding_message_size(LARGEST);
    let mut cursor = Vec::new();
    let mut failures = 0;
    loop {
        let request = WatchRequest {
            name: name.to_owned(),
            cursor: cursor.clone(),
            heartbeat: Some(heartbeat()),
            ..WatchRequest::default()
        };
        let before = cursor.clone();
        let broke = match follow(&mut events, request, &mut cursor, &mut on_update).await {
            Ok(done) => return Ok(done),
            Err(status) if is_final(status.code()) => return Err(status),
            Err(status) => status,
        };
        failures = if cursor == before { failures + 1 } else { 1 };
        sleep(pause(&broke, failures)).await;
    }
}

/// Follows one stream to the operation's end; an error if the stream ends first.
async fn follow<C: Channel>(
    events: &mut OperationEventsServiceClient<C>,
    request: WatchRequest,
    cursor: &mut Vec<u8>,
    on_update: &mut impl FnMut(&Operation),
) -> Result<Operation, Status> {
    let mut stream = timeout(SILENCE, events.watch(request)).await.map_err(silent)??.into_inner();
    loop {
        let frame = timeout(SILENCE, stream.message()).await.map_err(silent)??;
        let frame = frame.ok_or_else(|| Status::unavailable("the stream ended before the operation"))?;
        let (watch_response::Event::Snapshot(operation) | watch_response::Event::Update(operation)) =
            frame.event.unwrap_or(watch_response::Event::Heartbeat(Default::default()))
        else {
            *cursor = frame.cursor;
            continue;
        };
        on_update(&operation);
        // Only now: what was not applied is asked for again.
        *cursor = frame.cursor;
        if operation.done {
            return Ok(operation);
        }
    }
}

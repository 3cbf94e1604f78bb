//! Follows one operation to its end.

use mesh_proto::google::longrunning::Operation;
use mesh_proto::mesh::operations::v1::operation_events_service_client::OperationEventsServiceClient;
use mesh_proto::mesh::operations::v1::{WatchRequest, watch_response};
use tokio::time::{sleep, timeout};
use tonic::Status;

use super::channel::GrpcChannel;
use super::resume::{LARGEST, SILENCE, heartbeat, is_final, pause, silent};

/// Follows the operation `name` until it is done, and returns it with its response or error. `on_update` gets each
/// change of its state and the latest progress, in order and once.
///
/// It waits without a limit, also while the server is unavailable: put a [`tokio::time::timeout`] around it to limit
/// the time. The future may be dropped at any time.
///
/// # Errors
///
/// A failure that a retry cannot repair: NOT_FOUND (unknown or expired), INVALID_ARGUMENT (no operation's name),
/// PERMISSION_DENIED, UNAUTHENTICATED, FAILED_PRECONDITION, UNIMPLEMENTED (not a server of this kind), OUT_OF_RANGE
/// (more than 16 MiB).
pub async fn watch_until_done<C: GrpcChannel>(
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
        let failure = match follow(&mut events, request, &mut cursor, &mut on_update).await {
            Ok(done) => return Ok(done),
            Err(status) if is_final(status.code()) => return Err(status),
            Err(status) => status,
        };
        failures = if cursor == before { failures + 1 } else { 1 };
        sleep(pause(&failure, failures)).await;
    }
}

/// Follows one stream to the operation's end; an error if the stream ends first.
async fn follow<C: GrpcChannel>(
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
        // After `on_update`: a resumed stream sends an update again that was not applied.
        *cursor = frame.cursor;
        if operation.done {
            return Ok(operation);
        }
    }
}

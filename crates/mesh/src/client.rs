//! For callers outside the mesh: follow an operation to its end, whatever happens to the connection on the way.
//!
//! Streams break: a network fails, an instance is replaced, a stream reaches its age. None of this is the caller's
//! business as long as the operation goes on, and the feed behind it forgets nothing. So nobody has to write the loop:
//! [`watch_until_done`] resumes by its cursor, waits a little longer after every failure in a row, and takes silence
//! for a failure, since a dead connection says nothing.

use std::time::Duration;

use contracts::google::longrunning::Operation;
use contracts::mesh::operations::v1::operation_events_service_client::OperationEventsServiceClient;
use contracts::mesh::operations::v1::{WatchRequest, watch_response};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// How often the server shall say something, and after how much silence it counts as gone.
const HEARTBEAT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(30);
/// The pause after the first failure in a row, doubled with every other up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Follows the operation `name` until it is done, and gives it as it is then; `on_update` sees every change of
/// its state and the latest progress, in order and once. Whether it succeeded is in the operation.
///
/// It waits for as long as it takes, also for a server that is away: put a [`tokio::time::timeout`] around it to bound
/// that. It may be dropped at any time.
///
/// # Errors
///
/// What no retry mends: NOT_FOUND (unknown or expired), INVALID_ARGUMENT (no operation's name), PERMISSION_DENIED,
/// UNAUTHENTICATED, FAILED_PRECONDITION, UNIMPLEMENTED (not a server of this kind).
pub async fn watch_until_done(
    channel: Channel,
    name: &str,
    mut on_update: impl FnMut(&Operation),
) -> Result<Operation, Status> {
    let mut events = OperationEventsServiceClient::new(channel);
    let mut cursor = Vec::new();
    let mut failures = 0;
    loop {
        let heartbeat = prost_types::Duration { seconds: HEARTBEAT.as_secs().cast_signed(), nanos: 0 };
        let request = WatchRequest {
            name: name.to_owned(),
            cursor: cursor.clone(),
            heartbeat: Some(heartbeat),
            ..WatchRequest::default()
        };
        let before = cursor.clone();
        let broke = match follow(&mut events, request, &mut cursor, &mut on_update).await {
            Ok(done) => return Ok(done),
            Err(status) if is_final(status.code()) => return Err(status),
            Err(status) => status,
        };
        failures = if cursor == before { failures + 1 } else { 0 };
        sleep(pause(&broke, failures)).await;
    }
}

/// Follows one stream to the operation's end; an error if the stream ends first.
async fn follow(
    events: &mut OperationEventsServiceClient<Channel>,
    request: WatchRequest,
    cursor: &mut Vec<u8>,
    on_update: &mut impl FnMut(&Operation),
) -> Result<Operation, Status> {
    let silent = |_| Status::unavailable("the server has been silent for too long");
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

fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::NotFound
            | Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::FailedPrecondition
    )
}

/// As long as the server asks for; otherwise longer with every failure in a row, and never the same for all clients.
fn pause(status: &Status, failures: u32) -> Duration {
    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let longest = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE);
    asked.unwrap_or_default() + longest.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_within_bounds() {
        let status = Status::unavailable("");
        for failures in 0..100 {
            assert!(pause(&status, failures) <= LONGEST_PAUSE);
        }
        let longest = (0..1000).map(|_| pause(&status, 0)).max().unwrap();
        assert!(longest <= FIRST_PAUSE);
    }
}

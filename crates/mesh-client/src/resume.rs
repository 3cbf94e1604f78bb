//! The rules of resuming a stream: heartbeats, a limit for silence, and a pause after a failure.

use std::time::Duration;

use mesh_runtime::Backoff;
use tokio::time::error::Elapsed;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The interval of heartbeats that a client asks for.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// The silence after which a server counts as failed.
pub const SILENCE: Duration = Duration::from_secs(30);
/// The pause after failures in a row, with full jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// The largest accepted frame in bytes. An operation holds a response, whose size the service decides.
pub const LARGEST: usize = 16 * 1024 * 1024;

/// The heartbeats that a client asks for.
pub fn heartbeat() -> prost_types::Duration {
    prost_types::Duration { seconds: HEARTBEAT.as_secs().cast_signed(), nanos: 0 }
}

/// The failure of a server that is silent.
pub fn silent(_: Elapsed) -> Status {
    Status::unavailable("the server sent nothing for 30 s")
}

/// Whether a retry cannot repair a failure with this code.
pub fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::NotFound
            | Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::FailedPrecondition
            // A frame above the size limit, which a retry does not change.
            | Code::OutOfRange
    )
}

/// The pause after `failures` failures in a row: the delay that the server asks for, plus the backoff.
pub fn pause(status: &Status, failures: u32) -> Duration {
    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
    asked.unwrap_or_default() + BACKOFF.pause(failures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn pause_is_at_least_what_the_server_asks_for() {
        let asked = Duration::from_secs(7);
        let details = ErrorDetails::with_retry_info(Some(asked));
        let status = Status::with_error_details(Code::Unavailable, "", details);
        for failures in 0..100 {
            assert!((asked..=asked + BACKOFF.ceiling(failures)).contains(&pause(&status, failures)));
            assert!(pause(&Status::unavailable(""), failures) <= Duration::from_secs(5));
        }
    }
}

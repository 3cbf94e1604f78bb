//! What resuming a stream takes: heartbeats, a limit for silence, and a pause after failures.

use std::time::Duration;

use mesh_runtime::Backoff;
use tokio::time::error::Elapsed;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// How often the server is asked to send something, and the silence after which it counts as gone.
const HEARTBEAT: Duration = Duration::from_secs(10);
pub(super) const SILENCE: Duration = Duration::from_secs(30);
/// After failures in a row, with full jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// The largest frame that is accepted: an operation holds a response, and services decide how large that is.
pub(super) const LARGEST: usize = 16 * 1024 * 1024;

pub(super) fn heartbeat() -> prost_types::Duration {
    prost_types::Duration { seconds: HEARTBEAT.as_secs().cast_signed(), nanos: 0 }
}

pub(super) fn silent(_: Elapsed) -> Status {
    Status::unavailable("the server has been silent for too long")
}

/// Whether no retry mends a failure.
pub(super) fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::NotFound
            | Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::FailedPrecondition
            // A frame that is too large is too large the next time.
            | Code::OutOfRange
    )
}

/// The pause before the next attempt, after that many failures in a row: at least as long as the server asks for.
pub(super) fn pause(status: &Status, failures: u32) -> Duration {
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

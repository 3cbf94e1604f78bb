//! For callers outside the mesh: follow long work, whatever happens to the connection on the way.
//!
//! Streams break: a network fails, an instance is replaced, a stream reaches its age. None of this is the caller's
//! business as long as the work goes on, and the feed behind it forgets nothing. So nobody has to write the loop:
//! [`watch_until_done`] follows one operation and [`Subscription`] all of a caller's. Both resume by their cursor, wait
//! a little longer after every failure in a row, and take silence for a failure, since a dead connection says nothing.

mod subscribe;
mod watch;

use std::time::Duration;

use tokio::time::error::Elapsed;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

pub use subscribe::Subscription;
pub use watch::watch_until_done;

/// How often the server shall say something, and after how much silence it counts as gone.
const HEARTBEAT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(30);
/// The pause after the first failure in a row, doubled with every other up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The largest frame that is taken: an operation holds a response, and services decide how large that is.
const LARGEST: usize = 16 * 1024 * 1024;

fn heartbeat() -> prost_types::Duration {
    prost_types::Duration { seconds: HEARTBEAT.as_secs().cast_signed(), nanos: 0 }
}

fn silent(_: Elapsed) -> Status {
    Status::unavailable("the server has been silent for too long")
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
            // A frame that is too large is too large the next time.
            | Code::OutOfRange
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

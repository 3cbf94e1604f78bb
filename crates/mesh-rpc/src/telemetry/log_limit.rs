//! A bound of log lines that clients cause: at most [`LINES`] a second and reason.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The most lines a second of one reason.
const LINES: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

/// The lines of each reason within the last second.
#[derive(Debug, Default)]
pub struct LogLimit(Mutex<HashMap<&'static str, Logged>>);

#[derive(Debug)]
struct Logged {
    since: Instant,
    lines: u32,
    left_out: u32,
}

impl LogLimit {
    /// Whether another line of this reason is logged now, and how many were left out before it.
    pub fn line(&self, reason: &'static str) -> Option<u32> {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let logged = logged.entry(reason).or_insert(Logged { since: now, lines: 0, left_out: 0 });
        let mut left_out = 0;
        if logged.since.elapsed() >= SECOND {
            left_out = logged.left_out;
            *logged = Logged { since: now, lines: 0, left_out: 0 };
        }
        if logged.lines == LINES {
            logged.left_out += 1;
            return None;
        }
        logged.lines += 1;
        Some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_of_a_reason_are_bounded() {
        let limit = LogLimit::default();
        let lines = |reason| (0..100).filter_map(|_| limit.line(reason)).count();
        assert_eq!((lines("TOKEN_MISSING"), lines("TOKEN_INVALID")), (10, 10));
        tokio::time::advance(SECOND).await;
        assert_eq!(limit.line("TOKEN_MISSING"), Some(90), "the first line says how many were left out");
        assert_eq!(limit.line("TOKEN_MISSING"), Some(0));
    }
}

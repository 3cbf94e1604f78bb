//! The log of refusals: a line for each, at most [`LINES`] a second and rule, and a metric of all.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::denied::Denied;
use crate::call::{Caller, Method};
use crate::telemetry::Metrics;

/// The most lines a second of one rule.
const LINES: u32 = 10;
/// The longest cause, in characters: it may quote what a client sent.
const CAUSE: usize = 200;
const SECOND: Duration = Duration::from_secs(1);

/// Logs and counts refusals.
pub(super) struct Denials {
    metrics: Metrics,
    /// By rule.
    logged: Mutex<HashMap<&'static str, Logged>>,
}

/// The lines of a rule within one second.
struct Logged {
    since: Instant,
    lines: u32,
    left_out: u32,
}

impl Denials {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { metrics, logged: Mutex::default() }
    }

    /// Notes the refusal of a call.
    pub(super) fn note(&self, denied: &Denied, method: &'static Method, caller: &Caller, service: Option<&str>) {
        let rule = denied.reason();
        self.metrics.denied(method, rule);
        let Some(left_out) = self.line(rule) else { return };
        tracing::info!(
            rule,
            method = %format_args!("{}/{}", method.service, method.name),
            service = service.unwrap_or_default(),
            caller = caller.shown(),
            cause = %denied.cause().chars().take(CAUSE).collect::<String>(),
            left_out,
            "a call was refused"
        );
    }

    /// Whether another line of this rule is logged now, and how many were left out before it.
    fn line(&self, rule: &'static str) -> Option<u32> {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let logged = logged.entry(rule).or_insert(Logged { since: now, lines: 0, left_out: 0 });
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
    async fn lines_of_a_rule_are_bounded() {
        let denials = Denials::new(Metrics::new());
        let lines = |rule| (0..100).filter_map(|_| denials.line(rule)).count();
        assert_eq!((lines("TOKEN_MISSING"), lines("TOKEN_INVALID")), (10, 10));
        tokio::time::advance(SECOND).await;
        assert_eq!(denials.line("TOKEN_MISSING"), Some(90), "the first line says how many were left out");
        assert_eq!(denials.line("TOKEN_MISSING"), Some(0));
    }
}

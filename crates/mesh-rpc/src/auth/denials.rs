//! The log of refusals: a line for each, at most ten a second and rule, and a metric of all.

use super::denied::Denied;
use crate::call::{Caller, Method};
use crate::telemetry::{LogLimit, Metrics};

/// The longest cause, in characters: it may quote what a client sent.
const CAUSE: usize = 200;

/// Logs and counts refusals.
pub(super) struct Denials {
    metrics: Metrics,
    /// By rule.
    limit: LogLimit,
}

impl Denials {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { metrics, limit: LogLimit::default() }
    }

    /// Notes the refusal of a call.
    pub(super) fn note(&self, denied: &Denied, method: &'static Method, caller: &Caller, service: Option<&str>) {
        let rule = denied.reason();
        self.metrics.denied(method, rule);
        let Some(left_out) = self.limit.line(rule) else { return };
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
}

//! The handshakes of TLS at a listener: their bound, metrics and log.
//!
//! Guarantees:
//! - Handshakes that are not completed take at most half of the connections of the listener.
//! - A client that is not let in is counted, and logged with the reason, at most ten times a second and reason.
//!
//! Does not: log at `warn` what clients of the edge do. They are strangers.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::telemetry::{LogLimit, Side, TlsMetrics};

/// The longest cause, in characters: it may quote a certificate.
const CAUSE: usize = 200;

/// The handshakes of a listener.
pub(super) struct Handshakes {
    side: Side,
    metrics: TlsMetrics,
    limit: LogLimit,
    pending: Arc<Semaphore>,
}

impl Handshakes {
    /// At a listener of at most `connections`.
    pub(super) fn new(side: Side, metrics: TlsMetrics, connections: usize) -> Self {
        let pending = Arc::new(Semaphore::new((connections / 2).max(1)));
        Self { side, metrics, limit: LogLimit::default(), pending }
    }

    /// Begins a handshake; `None` if too many are not completed.
    pub(super) fn begin(&self, client: Option<SocketAddr>) -> Option<OwnedSemaphorePermit> {
        let begun = Arc::clone(&self.pending).try_acquire_owned().ok();
        if begun.is_none() {
            self.failed("TOO_MANY", "too many handshakes are not completed", client, None);
        }
        begun
    }

    /// Counts a handshake that was completed.
    pub(super) fn succeeded(&self) {
        self.metrics.handshake(self.side, true);
    }

    /// Notes a client that was not let in. `claimed` is the ID in its certificate, whether that is valid or not.
    pub(super) fn failed(
        &self,
        reason: &'static str,
        cause: &str,
        client: Option<SocketAddr>,
        claimed: Option<String>,
    ) {
        self.metrics.handshake(self.side, false);
        self.metrics.rejected(self.side, reason);
        let Some(left_out) = self.limit.line(reason) else { return };
        let (claimed, client) = (claimed.unwrap_or_default(), client.map(|client| client.to_string()));
        let client = client.unwrap_or_default();
        let cause: String = cause.chars().take(CAUSE).collect();
        if self.side == Side::Server {
            tracing::warn!(reason, cause, claimed, client, left_out, "a client was not let in");
        } else {
            tracing::debug!(reason, cause, client, left_out, "a client was not let in");
        }
    }

    /// Counts a client that went away before the handshake was completed, as a probe of the port does.
    pub(super) fn gone(&self, cause: &str, client: Option<SocketAddr>) {
        self.metrics.handshake(self.side, false);
        tracing::debug!(cause, ?client, "TLS handshake failed");
    }
}

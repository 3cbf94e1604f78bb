//! The metrics of certificates and of TLS handshakes.

use std::time::SystemTime;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The certificates and handshakes of a process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct TlsMetrics {
    ends: Family<ServiceLabels, Gauge>,
    renewals: Family<OutcomeLabels, Counter>,
    handshakes: Family<HandshakeLabels, Counter>,
    rejected: Family<RejectedLabels, Counter>,
}

/// Where a handshake was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// At the listener of the services.
    Server,
    /// At a peer.
    Client,
    /// At the listener of the edge.
    Edge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ServiceLabels {
    service: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HandshakeLabels {
    side: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RejectedLabels {
    side: &'static str,
    reason: &'static str,
}

impl TlsMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let ends = "When the certificate of a service ends, in seconds since 1970";
        registry.register("mesh_identity_not_after_seconds", ends, self.ends.clone());
        let renewals = "Readings of changed files of certificates, by outcome";
        registry.register("mesh_identity_renewals", renewals, self.renewals.clone());
        registry.register("mesh_tls_handshakes", "TLS handshakes, by side and outcome", self.handshakes.clone());
        registry.register("mesh_tls_rejected", "Clients that were not let in, by reason", self.rejected.clone());
    }

    /// Begins the series of a process that has certificates, at 0: it makes handshakes.
    pub fn begin(&self) {
        for outcome in ["renewed", "failed"] {
            drop(self.renewals.get_or_create(&OutcomeLabels { outcome }));
        }
        for (side, outcome) in
            [(Side::Server, "ok"), (Side::Server, "failed"), (Side::Client, "ok"), (Side::Client, "failed")]
        {
            drop(self.handshakes.get_or_create(&HandshakeLabels { side: side.name(), outcome }));
        }
    }

    /// Sets the end of the certificate of a service.
    pub fn ends(&self, service: &'static str, end: SystemTime) {
        let seconds = end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.ends.get_or_create(&ServiceLabels { service }).set(seconds.try_into().unwrap_or(i64::MAX));
    }

    /// Counts new files, which are `used` from now on, or cannot be.
    pub fn renewed(&self, used: bool) {
        let outcome = if used { "renewed" } else { "failed" };
        self.renewals.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Counts a handshake.
    pub fn handshake(&self, side: Side, succeeded: bool) {
        let outcome = if succeeded { "ok" } else { "failed" };
        self.handshakes.get_or_create(&HandshakeLabels { side: side.name(), outcome }).inc();
    }

    /// Counts a client that was not let in.
    pub fn rejected(&self, side: Side, reason: &'static str) {
        self.rejected.get_or_create(&RejectedLabels { side: side.name(), reason }).inc();
    }
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Edge => "edge",
        }
    }
}

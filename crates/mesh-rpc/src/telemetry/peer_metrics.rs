//! The metrics of calls to peers: picks and ejections per endpoint, retries per peer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The metrics of all peers. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct PeerFamilies {
    picks: Family<EndpointLabels, Counter>,
    ejections: Family<EndpointLabels, Counter>,
    retries: Family<PeerLabels, Counter>,
    retries_denied: Family<PeerLabels, Counter>,
    /// The picks and ejections of each endpoint.
    endpoints: Arc<Mutex<BTreeMap<EndpointLabels, (Counter, Counter)>>>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PeerLabels {
    peer: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct EndpointLabels {
    peer: &'static str,
    endpoint: String,
}

impl PeerFamilies {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("mesh_peer_picks", "Attempts at calls, by endpoint", self.picks.clone());
        let ejections = "Ejections of an endpoint for failing";
        registry.register("mesh_peer_ejections", ejections, self.ejections.clone());
        registry.register("mesh_peer_retries", "Attempts at calls after the first", self.retries.clone());
        let denied = "Calls that were not retried because the peer's retry budget was spent";
        registry.register("mesh_peer_retries_denied", denied, self.retries_denied.clone());
    }

    pub(super) fn peer(&self, peer: &'static str) -> PeerMetrics {
        let labels = PeerLabels { peer };
        let retries = self.retries.get_or_create_owned(&labels);
        let retries_denied = self.retries_denied.get_or_create_owned(&labels);
        PeerMetrics { peer, retries, retries_denied, families: self.clone() }
    }

    pub(super) fn endpoints(&self) -> Vec<EndpointCounts> {
        let counts = |(labels, (picks, ejections)): (&EndpointLabels, &(Counter, Counter))| EndpointCounts {
            peer: labels.peer,
            address: labels.endpoint.clone(),
            picks: picks.get(),
            ejections: ejections.get(),
        };
        self.all().iter().map(counts).collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<EndpointLabels, (Counter, Counter)>> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was counted of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointCounts {
    /// The service.
    pub peer: &'static str,
    /// The authority of the endpoint.
    pub address: String,
    /// The attempts at it.
    pub picks: u64,
    /// How often it was ejected.
    pub ejections: u64,
}

/// The metrics of one peer. Cheap to clone.
#[derive(Clone)]
pub struct PeerMetrics {
    peer: &'static str,
    retries: Counter,
    retries_denied: Counter,
    families: PeerFamilies,
}

impl PeerMetrics {
    /// Counts a retry.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// Counts a call that was not retried because the retry budget was spent.
    pub fn retry_denied(&self) {
        self.retries_denied.inc();
    }

    /// The metrics of one endpoint. `endpoint` is its authority.
    pub fn endpoint(&self, endpoint: &str) -> EndpointMetrics {
        let labels = EndpointLabels { peer: self.peer, endpoint: endpoint.to_owned() };
        let picks = self.families.picks.get_or_create_owned(&labels);
        let ejections = self.families.ejections.get_or_create_owned(&labels);
        self.families.all().insert(labels.clone(), (picks.clone(), ejections.clone()));
        EndpointMetrics { labels, picks, ejections, families: self.families.clone() }
    }
}

/// The metrics of one endpoint. Dropping them removes their series: instances that come and go would add series without
/// bound otherwise.
pub struct EndpointMetrics {
    labels: EndpointLabels,
    picks: Counter,
    ejections: Counter,
    families: PeerFamilies,
}

impl EndpointMetrics {
    /// Counts an attempt at the endpoint.
    pub fn picked(&self) {
        self.picks.inc();
    }

    /// Counts an ejection of the endpoint.
    pub fn ejected(&self) {
        self.ejections.inc();
    }
}

impl Drop for EndpointMetrics {
    fn drop(&mut self) {
        self.families.picks.remove(&self.labels);
        self.families.ejections.remove(&self.labels);
        self.families.all().remove(&self.labels);
    }
}

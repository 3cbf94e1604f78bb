//! What calling peers over the network comes to: how often each endpoint is picked and ejected, and what retries cost.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Of all peers. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Peers {
    picks: Family<AtEndpoint, Counter>,
    ejections: Family<AtEndpoint, Counter>,
    retries: Family<OfPeer, Counter>,
    out_of_budget: Family<OfPeer, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfPeer {
    peer: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AtEndpoint {
    peer: &'static str,
    endpoint: String,
}

impl Peers {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("mesh_peer_picks", "Attempts at calls, by the endpoint they went to", self.picks.clone());
        let ejections = "How often an endpoint was left out for failing";
        registry.register("mesh_peer_ejections", ejections, self.ejections.clone());
        registry.register("mesh_peer_retries", "Attempts at calls after the first", self.retries.clone());
        let denied = "Calls that were not tried again because the peer's retry budget was spent";
        registry.register("mesh_peer_retries_denied", denied, self.out_of_budget.clone());
    }

    pub(super) fn of(&self, peer: &'static str) -> PeerMetrics {
        let of = OfPeer { peer };
        let retries = self.retries.get_or_create_owned(&of);
        let out_of_budget = self.out_of_budget.get_or_create_owned(&of);
        PeerMetrics { peer, retries, out_of_budget, all: self.clone() }
    }
}

/// Of one peer. Cheap to clone.
#[derive(Clone)]
pub struct PeerMetrics {
    peer: &'static str,
    retries: Counter,
    out_of_budget: Counter,
    all: Peers,
}

impl PeerMetrics {
    /// A call is tried again.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// A call was not tried again: the retry budget is spent.
    pub fn out_of_budget(&self) {
        self.out_of_budget.inc();
    }

    /// The measurements of one endpoint, by its authority.
    pub fn endpoint(&self, endpoint: &str) -> EndpointMetrics {
        let at = AtEndpoint { peer: self.peer, endpoint: endpoint.to_owned() };
        let picks = self.all.picks.get_or_create_owned(&at);
        let ejections = self.all.ejections.get_or_create_owned(&at);
        EndpointMetrics { at, picks, ejections, all: self.all.clone() }
    }
}

/// Of one endpoint. They go with it: where instances come and go, they would be ever more.
pub struct EndpointMetrics {
    at: AtEndpoint,
    picks: Counter,
    ejections: Counter,
    all: Peers,
}

impl EndpointMetrics {
    /// An attempt goes to the endpoint.
    pub fn picked(&self) {
        self.picks.inc();
    }

    /// An endpoint was ejected.
    pub fn ejected(&self) {
        self.ejections.inc();
    }
}

impl Drop for EndpointMetrics {
    fn drop(&mut self) {
        self.all.picks.remove(&self.at);
        self.all.ejections.remove(&self.at);
    }
}

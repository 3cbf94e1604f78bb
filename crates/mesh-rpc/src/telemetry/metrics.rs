//! The metrics of a process: rate, errors and duration of RPCs, load shedding, and calls to peers.
//!
//! The names are those of gRPC's own interceptors; [`Exposition`] has the formats.

use std::sync::{Arc, Mutex, PoisonError};

use mesh_proto::mesh::inspect::v1::UnmetCall;
use mesh_runtime::executable;
use mesh_token::Tokens;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::carrier_metrics::{CarrierFamilies, CarrierMetrics};
use super::edges::Edges;
use super::exposition::Exposition;
use super::follow_metrics::{FollowFamilies, FollowMetrics, Lag};
use super::issuer_metrics::Issuers;
use super::kept_settings::KeepCalls;
use super::peer_metrics::{EndpointCounts, PeerFamilies, PeerMetrics};
use super::process_metrics::ProcessMetrics;
use super::rpc_metrics::RpcMetrics;
use super::tls_metrics::TlsMetrics;
use super::unmet_metrics::UnmetMetrics;
use crate::call::Method;

/// The metrics of one process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    /// The calls that the process serves and makes, including calls in memory. A call that it makes counts once, with
    /// all of its attempts.
    pub edges: Edges,
    /// Certificates and handshakes.
    pub tls: TlsMetrics,
    shed: Family<MethodLabels, Counter>,
    ready: Family<ServiceLabels, Gauge>,
    degraded: Family<ServiceLabels, Gauge>,
    refused: Family<ReasonLabels, Counter>,
    denied: Family<RuleLabels, Counter>,
    undeclared: Family<CallerLabels, Counter>,
    unmet: UnmetMetrics,
    stuck: Family<KindLabels, Gauge>,
    peers: PeerFamilies,
    followers: FollowFamilies,
    carriers: CarrierFamilies,
    registry: Arc<Mutex<Registry>>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MethodLabels {
    grpc_service: &'static str,
    grpc_method: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ServiceLabels {
    service: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RuleLabels {
    grpc_service: &'static str,
    grpc_method: &'static str,
    rule: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallerLabels {
    service: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    service: &'static str,
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    digest: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Creates metrics without values.
    pub fn new() -> Self {
        Self::keeping(KeepCalls::default())
    }

    /// Creates metrics without values, of a process that keeps these calls.
    pub fn keeping(keep: KeepCalls) -> Self {
        Self::of(Edges::new(keep, true))
    }

    /// Creates metrics that count no call: a benchmark compares what counting costs.
    pub fn counting_no_calls() -> Self {
        Self::of(Edges::new(KeepCalls::default(), false))
    }

    fn of(edges: Edges) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(RpcMetrics(edges.clone())));
        let shed = Family::default();
        registry.register("grpc_server_shed", "RPCs refused because too many were in flight", shed.clone());
        let (ready, degraded) = (Family::default(), Family::default());
        registry.register("mesh_service_ready", "Whether a service of the process is ready", ready.clone());
        registry.register("mesh_service_degraded", "Whether only part of a service works", degraded.clone());
        let refused = Family::default();
        registry.register("mesh_edge_refused", "HTTP requests that the edge refused without a call", refused.clone());
        let denied = Family::default();
        registry.register("mesh_calls_denied", "RPCs refused because of their caller, by rule", denied.clone());
        let undeclared = Family::default();
        registry.register("mesh_calls_undeclared", "RPCs that their caller does not declare", undeclared.clone());
        let unmet = UnmetMetrics::default();
        registry.register_collector(Box::new(unmet.clone()));
        let stuck = Family::default();
        registry.register("mesh_saga_stuck", "Sagas that wait for an operator to resume them", stuck.clone());
        let peers = PeerFamilies::default();
        peers.register(&mut registry);
        let followers = FollowFamilies::default();
        followers.register(&mut registry);
        let carriers = CarrierFamilies::default();
        carriers.register(&mut registry);
        let tls = TlsMetrics::default();
        tls.register(&mut registry);
        registry.register_collector(Box::new(ProcessMetrics::starting()));
        let registry = Arc::new(Mutex::new(registry));
        Self {
            edges,
            tls,
            shed,
            ready,
            degraded,
            refused,
            denied,
            undeclared,
            unmet,
            stuck,
            peers,
            followers,
            carriers,
            registry,
        }
    }

    /// Publishes the build of the process once its digest is known.
    pub async fn publish_build(self) {
        let digest = executable::digest().await.unwrap_or_default();
        let info = Info::new(BuildLabels { version: executable::VERSION, digest });
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register("mesh_build", "The build of this process: its version and its executable's SHA-256", info);
    }

    /// The metrics of a peer that runs in other processes.
    pub fn peer(&self, service: &'static str) -> PeerMetrics {
        self.peers.peer(service)
    }

    /// The metrics of a service's relay to a broker.
    pub fn carrier(&self, service: &'static str) -> CarrierMetrics {
        self.carriers.carrier(service)
    }

    /// The metrics of a service's follower of a source.
    pub fn follower(&self, service: &'static str, source: &'static str) -> FollowMetrics {
        self.followers.follower(service, source)
    }

    /// The followers of the process, by service and source, with their lag if this process applies the events.
    pub fn followers(&self) -> Vec<(&'static str, &'static str, Option<Lag>)> {
        self.followers.followers()
    }

    /// The instances of peers that the process knows.
    pub fn endpoints(&self) -> Vec<EndpointCounts> {
        self.peers.endpoints()
    }

    /// Shows how the issuers of these tokens do. A process does so once.
    pub fn issuers(&self, tokens: Tokens) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(Issuers(tokens)));
    }

    /// Begins the series of methods that the process serves, at 0: a rate of their first event is right, and an alert
    /// that compares codes has all of them.
    pub fn serves(&self, methods: impl IntoIterator<Item = &'static Method>) {
        for method in methods {
            self.edges.serves(method);
            drop(self.shed.get_or_create(&method_labels(method)));
        }
    }

    /// Counts a call that was refused because too many were in flight.
    pub fn shed(&self, method: &'static Method) {
        self.shed.get_or_create(&method_labels(method)).inc();
    }

    /// Counts an HTTP request that the edge refused without a call.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Counts a call that was refused because of its caller.
    pub fn denied(&self, method: &'static Method, rule: &'static str) {
        let labels = RuleLabels { grpc_service: method.service, grpc_method: method.name, rule };
        self.denied.get_or_create(&labels).inc();
    }

    /// Counts a call that `service` makes and does not declare.
    pub fn undeclared(&self, service: &'static str, method: &'static Method) {
        let labels = CallerLabels { service, grpc_service: method.service, grpc_method: method.name };
        self.undeclared.get_or_create(&labels).inc();
    }

    /// Shows these calls and events between builds as those that do not fit, and no others.
    pub fn set_unmet(&self, found: Vec<UnmetCall>) {
        self.unmet.set(found);
    }

    /// The calls and events that do not fit, as the gate of releases has found.
    pub fn unmet(&self) -> Vec<UnmetCall> {
        self.unmet.get()
    }

    /// Sets the readiness of a service of the process.
    pub fn service(&self, service: &'static str, ready: bool, degraded: bool) {
        let labels = ServiceLabels { service };
        self.ready.get_or_create(&labels).set(ready.into());
        self.degraded.get_or_create(&labels).set(degraded.into());
    }

    /// Sets the number of sagas of a kind that are stuck.
    pub fn stuck_sagas(&self, service: &'static str, kind: &'static str, count: i64) {
        self.stuck.get_or_create(&KindLabels { service, kind }).set(count);
    }

    /// The text of `/metrics`.
    pub fn render(&self, format: Exposition) -> String {
        let mut page = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a `String` never fails.
        let _ = text::encode(&mut page, &registry);
        drop(registry);
        format.page(page)
    }
}

fn method_labels(method: &'static Method) -> MethodLabels {
    MethodLabels { grpc_service: method.service, grpc_method: method.name }
}

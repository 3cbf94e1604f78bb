//! The metrics of a process: rate, errors and duration of RPCs, load shedding, and calls to peers.
//!
//! The names are those of gRPC's own interceptors; [`Exposition`] has the formats.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use mesh_runtime::executable;
use mesh_token::Tokens;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tonic::Code;

use super::carrier_metrics::{CarrierFamilies, CarrierMetrics};
use super::exposition::Exposition;
use super::follow_metrics::{FollowFamilies, FollowMetrics};
use super::histogram::Histogram;
use super::issuer_metrics::Issuers;
use super::peer_metrics::{PeerFamilies, PeerMetrics};
use super::process_metrics::ProcessMetrics;
use super::tls_metrics::TlsMetrics;
use crate::call::Method;

/// The methods whose metrics are found without a look-up by labels: more than the contracts of a process have.
const METHODS: usize = 1024;

/// The metrics of one process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    /// Calls that the process serves, including calls in memory.
    pub server: RpcMetrics,
    /// Calls that the services of the process make. A call counts once, with all of its attempts.
    pub client: RpcMetrics,
    /// Certificates and handshakes.
    pub tls: TlsMetrics,
    shed: Family<MethodLabels, Counter>,
    ready: Family<ServiceLabels, Gauge>,
    degraded: Family<ServiceLabels, Gauge>,
    refused: Family<ReasonLabels, Counter>,
    denied: Family<RuleLabels, Counter>,
    undeclared: Family<CallerLabels, Counter>,
    stuck: Family<KindLabels, Gauge>,
    peers: PeerFamilies,
    followers: FollowFamilies,
    carriers: CarrierFamilies,
    registry: Arc<Mutex<Registry>>,
}

/// Rate, errors and duration of calls, on the server's or on the client's side. Cheap to clone.
#[derive(Clone)]
pub struct RpcMetrics(Arc<Families>);

struct Families {
    handled: Family<CodeLabels, Counter>,
    seconds: Family<MethodLabels, Histogram>,
    in_flight: Family<MethodLabels, Gauge>,
    /// By the number of the method.
    methods: Box<[OnceLock<MethodMetrics>]>,
}

/// The metrics that every call of a method updates. Cached, because a lookup by labels costs more than an update.
struct MethodMetrics {
    succeeded: Counter,
    seconds: Histogram,
    in_flight: Gauge,
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
struct CodeLabels {
    grpc_service: &'static str,
    grpc_method: &'static str,
    grpc_code: &'static str,
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
        let mut registry = Registry::default();
        let (server, client) = (RpcMetrics::new("server", &mut registry), RpcMetrics::new("client", &mut registry));
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
            server,
            client,
            tls,
            shed,
            ready,
            degraded,
            refused,
            denied,
            undeclared,
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

    /// Shows how the issuers of these tokens do. A process does so once.
    pub fn issuers(&self, tokens: Tokens) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(Issuers(tokens)));
    }

    /// Begins the series of methods that the process serves, at 0: a rate of their first event is right, and an alert that
    /// compares codes has all of them.
    pub fn serves(&self, methods: impl IntoIterator<Item = &'static Method>) {
        for method in methods {
            self.server.update(method, |_| ());
            for code in (0..=16).map(Code::from_i32) {
                drop(self.server.0.handled.get_or_create(&code_labels(method, code)));
            }
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

impl RpcMetrics {
    fn new(side: &str, registry: &mut Registry) -> Self {
        let handled = Family::default();
        let seconds = Family::default();
        let in_flight = Family::default();
        let name = |what| format!("grpc_{side}_{what}");
        registry.register(name("handled"), "RPCs completed, by the code they ended with", handled.clone());
        registry.register(name("handling_seconds"), "Time from an RPC's start to its end", seconds.clone());
        registry.register(name("in_flight"), "RPCs started and not yet ended", in_flight.clone());
        Self(Arc::new(Families {
            handled,
            seconds,
            in_flight,
            methods: (0..METHODS).map(|_| OnceLock::new()).collect(),
        }))
    }

    /// Counts the start of a call.
    pub fn begin(&self, method: &'static Method) {
        self.update(method, |metrics| _ = metrics.in_flight.inc());
    }

    /// Counts the end of a call that ended with `code` after `duration`.
    pub fn end(&self, method: &'static Method, code: Code, duration: Duration) {
        self.update(method, |metrics| {
            metrics.in_flight.dec();
            metrics.seconds.observe(duration);
            if code == Code::Ok {
                metrics.succeeded.inc();
            } else {
                self.0.handled.get_or_create(&code_labels(method, code)).inc();
            }
        });
    }

    fn update(&self, method: &'static Method, update: impl Fn(&MethodMetrics)) {
        match self.0.methods.get(method.number) {
            Some(metrics) => update(metrics.get_or_init(|| self.of(method))),
            None => update(&self.of(method)),
        }
    }

    fn of(&self, method: &'static Method) -> MethodMetrics {
        MethodMetrics {
            succeeded: self.0.handled.get_or_create_owned(&code_labels(method, Code::Ok)),
            seconds: self.0.seconds.get_or_create_owned(&method_labels(method)),
            in_flight: self.0.in_flight.get_or_create_owned(&method_labels(method)),
        }
    }
}

fn method_labels(method: &'static Method) -> MethodLabels {
    MethodLabels { grpc_service: method.service, grpc_method: method.name }
}

fn code_labels(method: &'static Method, code: Code) -> CodeLabels {
    CodeLabels { grpc_service: method.service, grpc_method: method.name, grpc_code: code_name(code) }
}

/// A code as the metrics of other gRPC implementations spell it.
pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

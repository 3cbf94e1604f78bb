//! Rate, errors and duration of every RPC, under the names that gRPC's own interceptors made common, in the
//! [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/) text format.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tonic::Code;

use super::peers::{PeerMetrics, Peers};
use crate::call::Method;

/// In seconds, from an answer out of memory to one that somebody waits for.
const BUCKETS: [f64; 14] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The measurements of one process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    /// Of the calls that it serves, in memory, too.
    pub server: Rpcs,
    /// Of the calls that its services make, each with all of its attempts.
    pub client: Rpcs,
    shed: Family<Rpc, Counter>,
    peers: Peers,
    registry: Arc<Mutex<Registry>>,
}

/// Rate, errors and duration of calls, seen from one of their sides. Cheap to clone.
#[derive(Clone)]
pub struct Rpcs(Arc<Families>);

struct Families {
    handled: Family<Handled, Counter>,
    seconds: Family<Rpc, Histogram, fn() -> Histogram>,
    in_flight: Family<Rpc, Gauge>,
    /// By where a method is: there is one of each for as long as the process lives.
    methods: RwLock<HashMap<usize, OfMethod>>,
}

/// What every call of a method is counted by. Found once, for to find it by its labels takes longer than to count.
struct OfMethod {
    succeeded: Counter,
    seconds: Histogram,
    in_flight: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Rpc {
    grpc_service: &'static str,
    grpc_method: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Handled {
    grpc_service: &'static str,
    grpc_method: &'static str,
    grpc_code: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing is counted yet.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let (server, client) = (Rpcs::new("server", &mut registry), Rpcs::new("client", &mut registry));
        let shed = Family::default();
        registry.register("grpc_server_shed", "RPCs refused because too many were in flight", shed.clone());
        let peers = Peers::default();
        peers.register(&mut registry);
        Self { server, client, shed, peers, registry: Arc::new(Mutex::new(registry)) }
    }

    /// Of one peer that runs in other processes.
    pub fn peer(&self, service: &'static str) -> PeerMetrics {
        self.peers.of(service)
    }

    /// A call that was refused because too many were in flight.
    pub fn shed(&self, method: &'static Method) {
        self.shed.get_or_create(&rpc(method)).inc();
    }

    /// The text that `/metrics` answers with.
    pub fn render(&self) -> String {
        let mut page = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String does not fail.
        let _ = text::encode(&mut page, &registry);
        page
    }
}

impl Rpcs {
    fn new(side: &str, registry: &mut Registry) -> Self {
        let handled = Family::default();
        let seconds = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        let in_flight = Family::default();
        let name = |what| format!("grpc_{side}_{what}");
        registry.register(name("handled"), "RPCs completed, by the code they ended with", handled.clone());
        registry.register(name("handling_seconds"), "Time from an RPC's start to its end", seconds.clone());
        registry.register(name("in_flight"), "RPCs begun and not yet ended", in_flight.clone());
        Self(Arc::new(Families { handled, seconds, in_flight, methods: RwLock::default() }))
    }

    /// A call of the method has begun.
    pub fn begin(&self, method: &'static Method) {
        self.of(method, |of| _ = of.in_flight.inc());
    }

    /// A call of the method has ended with this code, after so long.
    pub fn end(&self, method: &'static Method, code: Code, took: Duration) {
        self.of(method, |of| {
            of.in_flight.dec();
            of.seconds.observe(took.as_secs_f64());
            if code == Code::Ok {
                of.succeeded.inc();
            } else {
                self.0.handled.get_or_create(&handled(method, code)).inc();
            }
        });
    }

    fn of(&self, method: &'static Method, count: impl Fn(&OfMethod)) {
        let place = std::ptr::from_ref(method).addr();
        if let Some(of) = self.0.methods.read().unwrap_or_else(PoisonError::into_inner).get(&place) {
            return count(of);
        }
        let of = OfMethod {
            succeeded: self.0.handled.get_or_create_owned(&handled(method, Code::Ok)),
            seconds: self.0.seconds.get_or_create_owned(&rpc(method)),
            in_flight: self.0.in_flight.get_or_create_owned(&rpc(method)),
        };
        count(&of);
        // Two may find it at the same time: they have found the same.
        self.0.methods.write().unwrap_or_else(PoisonError::into_inner).insert(place, of);
    }
}

fn rpc(method: &'static Method) -> Rpc {
    Rpc { grpc_service: method.service, grpc_method: method.name }
}

fn handled(method: &'static Method, code: Code) -> Handled {
    Handled { grpc_service: method.service, grpc_method: method.name, grpc_code: code_name(code) }
}

/// A code as gRPC's own metrics spell it.
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

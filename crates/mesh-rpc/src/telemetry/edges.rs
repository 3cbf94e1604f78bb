//! The edges of a process: every call that it serves or makes is counted here, once. `/metrics` and the inspect API
//! read it.
//!
//! Guarantees:
//! - A known edge is found without a lock and without a hash: by the number of its method, then among the few that have
//!   it.
//! - The number of edges is bounded. Methods that no contract has are one, and so are callers beyond [`CALLERS`]
//!   services with a certificate, or [`CLAIMED`] that say what they are, and all of them beyond [`MOST`] edges.
//! - A caller is the service of its certificate, or the one that calls in memory. What a caller within the mesh says of
//!   itself is for display; what one outside of it says is not read.
//!
//! See: decision 0047.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::SystemTime;

use http::HeaderMap;
use http::header::USER_AGENT;

use super::agent::{self, DASHBOARD};
use super::edge::Edge;
use super::edge_table::{List, Table};
use super::ends::{Ends, Measured};
use super::kept::{Kept, KeptCall};
use super::kept_settings::KeepCalls;
use super::names::Names;
use crate::call::{Call, Method};

/// The most services with a certificate. Further ones are one caller.
const CALLERS: usize = 256;
/// The most services without a certificate. Further ones are one caller.
const CLAIMED: usize = 64;
/// From so many edges on, further callers over the network are one: without a bound each could claim a name for each
/// method.
const MOST: usize = 2048;

/// The edges of one process. Cheap to clone.
#[derive(Clone)]
pub struct Edges(Arc<Store>);

struct Store {
    methods: Table,
    /// In the order in which they began.
    all: RwLock<Vec<&'static Edge>>,
    process: OnceLock<Process>,
    expected: Mutex<Expected>,
    callers: Names,
    claimed: Names,
    kept: Arc<Kept>,
    counts: bool,
}

/// What runs in the process.
struct Process {
    name: &'static str,
    services: BTreeSet<&'static str>,
}

/// What is shown before its first call.
#[derive(Clone, Default)]
pub(super) struct Expected {
    /// The methods that the process serves.
    pub(super) served: Vec<&'static Method>,
    /// The services of the process, with the methods that they declare to call.
    pub(super) made: Vec<(&'static str, &'static Method)>,
}

impl Default for Edges {
    fn default() -> Self {
        Self::new(KeepCalls::default(), true)
    }
}

impl Edges {
    /// No edge yet. Without `counts`, nothing is counted or kept.
    pub(super) fn new(keep: KeepCalls, counts: bool) -> Self {
        Self(Arc::new(Store {
            methods: Table::default(),
            all: RwLock::default(),
            process: OnceLock::new(),
            expected: Mutex::default(),
            callers: Names::at_most(CALLERS),
            claimed: Names::at_most(CLAIMED),
            kept: Arc::new(Kept::new(keep)),
            counts,
        }))
    }

    /// Names the process and its services, which are the callees of what it serves. Once, before the first call.
    pub fn runs(&self, name: &'static str, services: impl IntoIterator<Item = &'static str>) {
        let _ = self.0.process.set(Process { name, services: services.into_iter().collect() });
    }

    /// The process serves this method: it is shown before the first call.
    pub(super) fn serves(&self, method: &'static Method) {
        self.0.expected.lock().unwrap_or_else(PoisonError::into_inner).served.push(method);
    }

    /// A service of the process declares to call this method: it is shown before the first call.
    pub(crate) fn declares(&self, service: &'static str, method: &'static Method) {
        self.0.expected.lock().unwrap_or_else(PoisonError::into_inner).made.push((service, method));
    }

    pub(super) fn expected(&self) -> Expected {
        self.0.expected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The edge of calls that a service of this process makes.
    pub fn made(
        &self,
        caller: &'static str,
        callee: &'static str,
        method: &'static Method,
        memory: bool,
    ) -> &'static Edge {
        let same = |ends: &Ends| {
            ends.side == Measured::Made
                && ends.memory == memory
                && same(ends.caller, caller)
                && same(ends.callee, callee)
        };
        let side = Measured::Made;
        self.find(method, same, || Ends { side, caller, claimed: "", callee, method, memory })
    }

    /// The edge of a call that this process serves.
    pub(super) fn served<B>(&self, call: &Call<B>) -> &'static Edge {
        let method = call.method;
        let side = Measured::Served;
        if let Some(local) = call.local {
            let (caller, callee) = (local.caller, local.called);
            let same = |ends: &Ends| {
                ends.side == side && ends.memory && same(ends.caller, caller) && same(ends.callee, callee)
            };
            return self.find(method, same, || Ends { side, caller, claimed: "", callee, method, memory: true });
        }
        let caller = call.service().unwrap_or_default();
        let claimed = if call.is_outside { "" } else { claimed(call.request.headers()) };
        // A dashboard calls with the certificate of its process.
        let claimed = if caller.is_empty() || claimed == DASHBOARD { claimed } else { "" };
        let same = |caller: &str, claimed: &str, ends: &Ends| {
            ends.side == side && !ends.memory && ends.caller == caller && ends.claimed == claimed
        };
        let list = self.list(method);
        if let Some(known) = list.and_then(|list| list.find(|ends| same(caller, claimed, ends))) {
            return known;
        }
        // Names beyond the bounds are empty ones.
        let is_full = self.0.all.read().unwrap_or_else(PoisonError::into_inner).len() >= MOST;
        let (caller, claimed) = if is_full { ("", "") } else { (caller, claimed) };
        let (caller, claimed) = (self.0.callers.keep(caller), self.0.claimed.keep(claimed));
        let ends = || Ends { side, caller, claimed, callee: self.callee(method), method, memory: false };
        self.find(method, |ends| same(caller, claimed, ends), ends)
    }

    /// All edges, in the order in which they began.
    pub fn all(&self) -> Vec<&'static Edge> {
        self.0.all.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// At most `most` of the calls that the process has kept, the newest first: of a method, and only those that failed
    /// or were slow, if that is asked for. And since when it has all.
    pub fn kept(&self, most: usize, method: Option<&str>, problems: bool) -> (Vec<KeptCall>, SystemTime) {
        self.0.kept.list(most, method, problems)
    }

    /// The kept calls of a trace, by their begin.
    pub fn trace(&self, trace: u128) -> Vec<KeptCall> {
        self.0.kept.trace(trace)
    }

    /// The service that answers calls of a method: that of its package if it runs here, the only one, or the process.
    fn callee(&self, method: &Method) -> &'static str {
        let Some(process) = self.0.process.get() else { return method.package() };
        match (process.services.get(method.package()), process.services.first()) {
            (Some(service), _) => service,
            (None, Some(only)) if process.services.len() == 1 => only,
            _ => process.name,
        }
    }

    fn list(&self, method: &Method) -> Option<&List> {
        self.0.methods.get(method.number)
    }

    fn find(&self, method: &Method, same: impl Fn(&Ends) -> bool, ends: impl Fn() -> Ends) -> &'static Edge {
        if let Some(list) = self.list(method) {
            return list.find(&same).unwrap_or_else(|| list.add(&same, || self.begin(ends())));
        }
        // A process with more methods than the table: it has read its contracts again and again, as tests do.
        let known = |edge: &&&'static Edge| edge.ends.method.number == method.number && same(&edge.ends);
        let mut all = self.0.all.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.iter().find(known) {
            return known;
        }
        let edge = self.edge(ends());
        all.push(edge);
        edge
    }

    fn edge(&self, ends: Ends) -> &'static Edge {
        // Edges are bounded, and calls refer to them until they end.
        Box::leak(Box::new(Edge::new(ends, Arc::clone(&self.0.kept), self.0.counts)))
    }

    #[cold]
    fn begin(&self, ends: Ends) -> &'static Edge {
        let edge = self.edge(ends);
        self.0.all.write().unwrap_or_else(PoisonError::into_inner).push(edge);
        edge
    }
}

/// Whether two names are the same. Those of one process are mostly at one address.
fn same(a: &'static str, b: &'static str) -> bool {
    std::ptr::eq(a, b) || a == b
}

/// The service that a caller says it is.
fn claimed(headers: &HeaderMap) -> &str {
    headers.get(USER_AGENT).and_then(|value| agent::service(value.to_str().ok()?)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::edge_table::METHODS;
    use super::*;
    use crate::call::tests::{CHECK, GET};
    use crate::call::{Connection, Local, Methods};
    use tonic::body::Body;

    /// A call of the one method.
    fn from_network(agent: Option<&str>) -> Call {
        static METHODS: OnceLock<Methods> = OnceLock::new();
        let method = METHODS.get_or_init(|| Methods::of(&[])).find(GET);
        let mut call = Call::new(method, None, http::Request::new(Body::empty()));
        if let Some(agent) = agent {
            call.request.headers_mut().insert(USER_AGENT, agent.parse().unwrap());
        }
        call
    }

    #[test]
    fn edges_of_each_caller_side_and_way_differ() {
        let edges = Edges::default();
        edges.runs("monolith", ["artwork", "library"]);
        let method = Call::to(GET, Body::empty()).method;
        let memory = |caller, called| {
            let call = Call { method, ..Call::in_memory(method, Local { caller, called }, http::Request::new(())) };
            edges.served(&call)
        };
        let found = [
            edges.made("artwork", "library", method, true),
            edges.made("artwork", "library", method, false),
            edges.made("library", "artwork", method, true),
            memory("artwork", "library"),
            memory("library", "artwork"),
        ];
        let again = [
            edges.made("artwork", "library", method, true),
            edges.made("artwork", "library", method, false),
            edges.made("library", "artwork", method, true),
            memory("artwork", "library"),
            memory("library", "artwork"),
        ];
        for (at, edge) in found.iter().enumerate() {
            assert!(std::ptr::eq(*edge, again[at]), "{:?}", edge.ends);
            assert!(found.iter().skip(at + 1).all(|other| !std::ptr::eq(*edge, *other)), "{:?}", edge.ends);
        }
        assert_eq!(edges.all().len(), 5);
    }

    #[test]
    fn edges_of_callers_outside_have_what_they_claim_for_display() {
        let edges = Edges::default();
        edges.runs("catalog", ["catalog"]);
        let ends = |agent| {
            let Ends { caller, claimed, callee, memory, .. } = edges.served(&from_network(agent)).ends;
            (caller, claimed, callee, memory)
        };
        assert_eq!(ends(None), ("", "", "catalog", false));
        assert_eq!(ends(Some("grpcurl/1.9.3")), ("", "", "catalog", false));
        assert_eq!(ends(Some("grpc-rust-mesh/0.1.0 (artwork)")), ("", "artwork", "catalog", false));
        for name in 0..2 * CLAIMED {
            edges.served(&from_network(Some(&format!("grpc-rust-mesh/0.1.0 (name-{name})"))));
        }
        assert_eq!(edges.all().len(), CLAIMED + 1);
    }

    #[test]
    fn edges_of_calls_from_outside_have_no_claim() {
        let edges = Edges::default();
        for name in 0..3 {
            let call = from_network(Some(&format!("grpc-rust-mesh/0.1.0 (name-{name})"))).from_outside();
            assert!(call.request.headers().contains_key(USER_AGENT));
            assert_eq!(edges.served(&call.map_body(|_| ())).ends.claimed, "");
        }
        assert_eq!(edges.all().len(), 1);
    }

    #[test]
    fn edges_of_a_proven_caller_ignore_what_it_claims() {
        let edges = Edges::default();
        let of_agent = |service: &str, agent| {
            let connection = Connection::of_service(
                tokio_util::sync::CancellationToken::new(),
                None,
                Some(service.to_owned()),
                tokio_util::sync::CancellationToken::new(),
            );
            edges.served(&Call { connection: Some(connection), ..from_network(Some(agent)) }).ends
        };
        let of = |service: &str| of_agent(service, "grpc-rust-mesh/0.1.0 (library)");
        assert_eq!((of("artwork").caller, of("artwork").claimed), ("artwork", ""));
        let dashboard = of_agent("artwork", "grpc-rust-mesh/0.1.0 (dashboard)");
        assert_eq!((dashboard.caller, dashboard.claimed), ("artwork", "dashboard"));
        for name in 0..2 * CALLERS {
            of(&format!("service-{name}"));
        }
        // The empty name is that of all beyond the bound.
        assert_eq!(edges.all().len(), CALLERS + 2);
    }

    #[test]
    fn callee_is_the_service_of_the_package_or_the_only_one_or_the_process() {
        let callee = |services: &[&'static str], path| {
            let edges = Edges::default();
            edges.runs("monolith", services.iter().copied());
            edges.served(&Call::to(path, Body::empty())).ends.callee
        };
        assert_eq!(callee(&["google", "artwork"], GET), "google");
        assert_eq!(callee(&["artwork"], CHECK), "artwork");
        assert_eq!(callee(&["artwork", "catalog"], CHECK), "monolith");
        assert_eq!(callee(&[], GET), "monolith");
    }

    #[test]
    fn edges_of_callers_from_the_network_are_bounded_together() {
        let edges = Edges::default();
        for number in 0..MOST {
            let method = Method { number, scopes: &[], ..*Method::unknown() };
            edges.made("a", "b", Box::leak(Box::new(method)), false);
        }
        let served = edges.served(&from_network(Some("grpc-rust-mesh/0.1.0 (artwork)"))).ends;
        assert_eq!((served.claimed, edges.all().len()), ("", MOST + 1));
    }

    #[test]
    fn edges_of_many_methods_and_threads_are_made_once() {
        let edges = Edges::default();
        let method = |number| -> &'static Method {
            let name = "GetOperation";
            let known =
                Methods::of(&[]).of_contract("google.longrunning.Operations").find(|method| method.name == name);
            let Method { service, name, .. } = known.unwrap();
            Box::leak(Box::new(Method { number, service, name, scopes: &[], ..*Method::unknown() }))
        };
        // The last ones have no place in the table.
        let methods: Vec<_> = (METHODS - 100..METHODS + 100).map(method).collect();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| methods.iter().for_each(|method| edges.made("a", "b", method, true).begin()));
            }
        });
        let all = edges.all();
        assert!(all.len() == methods.len() && all.iter().all(|edge| edge.totals().begun == 8), "{}", all.len());
    }
}

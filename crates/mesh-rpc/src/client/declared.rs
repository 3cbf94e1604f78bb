//! The calls that a service declares, and the check of each call against them.
//!
//! Guarantees:
//! - A call that the service does not declare is counted and logged. A build with debug assertions refuses it: tests
//!   find it.
//! - The check of a declared call reads one byte.
//!
//! Does not: check calls of health and reflection, which every process serves.

use std::collections::BTreeMap;
use std::sync::Arc;

use tonic::{Code, Status};

use crate::call::error::{DOMAIN, status};
use crate::call::{Method, Protocol};
use crate::telemetry::{LogLimit, Metrics};

/// Whether an undeclared call is refused, and not only counted.
const REFUSED: bool = cfg!(debug_assertions);

/// The methods that a service declares to call. Cheap to clone.
#[derive(Clone)]
pub struct Declared(Arc<Service>);

struct Service {
    name: &'static str,
    /// By peer.
    peers: BTreeMap<&'static str, Arc<Set>>,
    metrics: Metrics,
    lines: LogLimit,
}

/// Whether a method is one of these, by its number.
#[derive(Default)]
struct Set(Box<[bool]>);

impl Declared {
    /// What `service` calls: the methods of peers.
    pub fn new(
        service: &'static str,
        calls: impl IntoIterator<Item = (&'static str, &'static Method)>,
        metrics: Metrics,
    ) -> Self {
        let mut numbers: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (peer, method) in calls {
            metrics.edges.declares(service, method);
            numbers.entry(peer).or_default().push(method.number);
        }
        let peers = numbers.into_iter().map(|(peer, numbers)| (peer, Arc::new(Set::of(&numbers)))).collect();
        Self(Arc::new(Service { name: service, peers, metrics, lines: LogLimit::default() }))
    }

    /// The calls of one peer.
    pub(super) fn of_peer(&self, peer: &'static str) -> Calls {
        Calls { peer, methods: self.0.peers.get(peer).cloned().unwrap_or_default(), service: self.clone() }
    }
}

/// The methods of one peer that a service declares to call. Cheap to clone.
#[derive(Clone)]
pub(super) struct Calls {
    peer: &'static str,
    methods: Arc<Set>,
    service: Declared,
}

impl Calls {
    /// Checks a call.
    ///
    /// # Errors
    ///
    /// INTERNAL, reason `UNDECLARED_CALL`: the service does not declare the call, and the build refuses that.
    pub(super) fn check(&self, method: &'static Method) -> Result<(), Status> {
        if self.methods.has(method.number) || method.is_of_processes() || method.protocol == Protocol::Http {
            return Ok(());
        }
        let Service { name, metrics, lines, .. } = &*self.service.0;
        metrics.undeclared(name, method);
        let call = format_args!("{}/{}", method.service, method.name);
        if let Some(left_out) = lines.line(method.name) {
            tracing::warn!(service = name, peer = self.peer, %call, left_out, "a call that the service does not declare");
        }
        if !REFUSED {
            return Ok(());
        }
        let message = if !method.is_known() {
            format!(
                "`{name}` calls a method of `{}` that no contract has: add its contract to the descriptor set",
                self.peer
            )
        } else {
            let peer = format!("(\"{}\", \"{}\")", self.peer, method.service);
            let contract = if method.is_shared() { peer } else { format!("\"{}\"", method.service) };
            format!("`{name}` does not declare that it calls {call}: add .calls({contract}, &[\"{}\"])", method.name)
        };
        Err(status(Code::Internal, DOMAIN, "UNDECLARED_CALL", message))
    }
}

impl Set {
    fn of(numbers: &[usize]) -> Self {
        let known = numbers.iter().max().map_or(0, |most| most + 1);
        Self((0..known).map(|number| numbers.contains(&number)).collect())
    }

    fn has(&self, number: usize) -> bool {
        self.0.get(number).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Methods, peer};
    use crate::telemetry::Exposition;

    #[test]
    fn set_has_what_it_was_made_of() {
        let set = Set::of(&[1, 63, 64, 130]);
        let has: Vec<_> = (0..300).filter(|number| set.has(*number)).collect();
        assert_eq!(has, [1, 63, 64, 130]);
        assert!(!Set::default().has(0));
    }

    #[test]
    #[cfg_attr(not(debug_assertions), ignore = "such a build makes the call")]
    fn undeclared_call_is_counted_and_refused() {
        let (methods, metrics) = (Methods::of(&[]), Metrics::new());
        let method = |name| methods.find(&format!("/google.longrunning.Operations/{name}"));
        let declared = Declared::new("page", [("artwork", method("GetOperation"))], metrics.clone());
        let artwork = declared.of_peer("artwork");
        assert!(artwork.check(method("GetOperation")).is_ok());
        assert!(artwork.check(methods.find("/grpc.health.v1.Health/Check")).is_ok());
        let refused = artwork.check(method("CancelOperation")).unwrap_err();
        assert_eq!((refused.code(), peer::reason(&refused).as_deref()), (Code::Internal, Some("UNDECLARED_CALL")));
        assert!(
            refused
                .message()
                .ends_with(r#".calls(("artwork", "google.longrunning.Operations"), &["CancelOperation"])"#)
        );
        assert!(declared.of_peer("library").check(method("GetOperation")).is_err(), "another peer");
        assert!(artwork.check(Method::unknown()).is_err());
        let page = metrics.render(Exposition::Text);
        let counted = r#"mesh_calls_undeclared_total{service="page",grpc_service="google.longrunning.Operations",grpc_method="CancelOperation"} 1"#;
        assert!(page.contains(counted), "{page}");
    }
}

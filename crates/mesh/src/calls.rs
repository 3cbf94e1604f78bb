//! The calls that services declare: checked at the start of their process.
//!
//! See: docs/guide/peers.md

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{bail, ensure};
use mesh_rpc::auth::intentions::Intentions;
use mesh_rpc::call::{Method, Methods};

/// The method by which a follower reads the events of its source.
const SUBSCRIBE: &str = "/mesh.events.v1.EventsService/Subscribe";

/// A contract whose methods a service calls: the full name of a gRPC service, or for a contract that every service may
/// serve the name of the peer and that of the gRPC service.
#[derive(Clone, Copy, Debug)]
pub struct Callee {
    peer: Option<&'static str>,
    contract: &'static str,
}

impl From<&'static str> for Callee {
    fn from(contract: &'static str) -> Self {
        Self { peer: None, contract }
    }
}

impl From<(&'static str, &'static str)> for Callee {
    fn from((peer, contract): (&'static str, &'static str)) -> Self {
        Self { peer: Some(peer), contract }
    }
}

/// The calls of a service, as it declares them.
#[derive(Default)]
pub(crate) struct Calls(Vec<(Callee, Vec<&'static str>, bool)>);

/// A call that a service declares, of a method that exists.
#[derive(Clone, Debug)]
pub(crate) struct DeclaredCall {
    pub(crate) peer: &'static str,
    pub(crate) method: &'static Method,
    /// Whether the service can do without the peer.
    pub(crate) optional: bool,
}

/// What there is to call.
pub(crate) struct System {
    pub(crate) methods: Methods,
    /// The services with a contract, and those of this process.
    pub(crate) services: BTreeSet<&'static str>,
}

/// By service.
pub(crate) type ServiceCalls = BTreeMap<&'static str, Vec<DeclaredCall>>;

impl Calls {
    pub(crate) fn add(&mut self, callee: Callee, methods: &[&'static str], optional: bool) {
        self.0.push((callee, methods.to_vec(), optional));
    }

    /// The calls of `service`, with those that follow `sources`; an error of one line if one cannot be made.
    pub(crate) fn check(
        &self,
        service: &str,
        sources: impl Iterator<Item = &'static str>,
        system: &System,
    ) -> anyhow::Result<Vec<DeclaredCall>> {
        let System { methods, .. } = system;
        let follow = |peer| DeclaredCall { peer, method: methods.find(SUBSCRIBE), optional: false };
        let (mut calls, mut seen): (Vec<_>, _) = (sources.map(follow).collect(), BTreeSet::new());
        for (callee, names, optional) in &self.0 {
            let contract = callee.contract;
            ensure!(!names.is_empty(), "`{service}` declares no method of {contract}: name those that it calls");
            for name in names {
                let method = find(methods, service, contract, name)?;
                let peer = callee.of(service, method, system)?;
                ensure!(seen.insert((peer, method.number)), "`{service}` declares {contract}/{name} of `{peer}` twice");
                calls.push(DeclaredCall { peer, method, optional: *optional });
            }
        }
        Ok(calls)
    }
}

impl Callee {
    fn of(self, service: &str, method: &'static Method, system: &System) -> anyhow::Result<&'static str> {
        let contract = self.contract;
        match self.peer {
            _ if method.is_of_processes() => {
                bail!("`{service}` declares {contract}, which every process serves: omit it")
            }
            None if method.is_shared() => {
                bail!("`{service}` declares {contract} without the service that serves it: (\"NAME\", \"{contract}\")")
            }
            None => Ok(method.package()),
            Some(peer) if !method.is_shared() => {
                ensure!(
                    peer == method.package(),
                    "`{service}` declares {contract} of `{peer}`, which does not serve it"
                );
                Ok(peer)
            }
            Some(peer) => {
                let known = system.services.contains(peer);
                ensure!(known, "`{service}` declares calls of `{peer}`, and no contract is of such a service");
                Ok(peer)
            }
        }
    }
}

fn find(methods: &Methods, service: &str, contract: &str, name: &str) -> anyhow::Result<&'static Method> {
    let method = methods.find(&format!("/{contract}/{name}"));
    if (method.service, method.name) == (contract, name) {
        return Ok(method);
    }
    let known: BTreeSet<_> = methods.of_contract(contract).map(|method| method.name).collect();
    ensure!(!known.is_empty(), "`{service}` declares calls of {contract}, and there is no such gRPC service");
    let known = known.into_iter().collect::<Vec<_>>().join(", ");
    bail!("`{service}` declares {contract}/{name}, and there is no such method: expected one of {known}")
}

/// Warns of declared calls that intentions refuse, a line for each service.
pub(crate) fn warn_of_refused(calls: &ServiceCalls, intentions: &Intentions) {
    for (service, calls) in calls {
        let refused = calls.iter().filter(|call| intentions.refuse(service, call.peer, call.method));
        let refused: Vec<_> = refused
            .map(|DeclaredCall { peer, method, .. }| format!("{peer}: {}/{}", method.service, method.name))
            .collect();
        if !refused.is_empty() {
            let calls = refused.join(", ");
            tracing::warn!(service, calls, "auth.intentions refuses calls that the service declares");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATIONS: &str = "google.longrunning.Operations";

    fn system() -> System {
        System { methods: Methods::of(&[]), services: ["page"].into() }
    }

    fn check(callee: impl Into<Callee>, names: &[&'static str]) -> Result<Vec<DeclaredCall>, String> {
        let mut calls = Calls::default();
        calls.add(callee.into(), names, true);
        calls.check("page", ["catalog"].into_iter(), &system()).map_err(|why| why.to_string())
    }

    #[test]
    fn mistakes_in_declared_calls_are_one_line_each() {
        for (mistake, words) in [
            (check("catalog.v9.CatalogService", &["GetTitle"]), "there is no such gRPC service"),
            (
                check(("artwork", OPERATIONS), &["GetOperatoin"]),
                "expected one of CancelOperation, DeleteOperation, Get",
            ),
            (check(OPERATIONS, &["GetOperation"]), r#"("NAME", "google.longrunning.Operations")"#),
            (check(("artwork", OPERATIONS), &["GetOperation"]), "no contract is of such a service"),
            (check("grpc.health.v1.Health", &["Check"]), "every process serves"),
            (check(OPERATIONS, &[]), "declares no method"),
        ] {
            let mistake = mistake.expect_err(words);
            assert!(mistake.starts_with("`page` declares") && mistake.contains(words), "{mistake}");
            assert!(!mistake.contains('\n'), "{mistake}");
        }
    }

    #[test]
    fn follower_declares_its_subscription() {
        let calls = Calls::default().check("page", ["catalog"].into_iter(), &system()).unwrap();
        let [DeclaredCall { peer: "catalog", method, optional: false }] = &calls[..] else { panic!("{calls:?}") };
        assert_eq!(method.name, "Subscribe");
    }
}

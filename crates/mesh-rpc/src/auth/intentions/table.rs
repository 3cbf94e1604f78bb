//! Who may call whom: the rules of intentions, whatever they are read from.
//!
//! Guarantees:
//! - A call that no rule allows is denied. A service may call itself.
//! - The first rule for a caller decides, and within it the first permission that matches.
//! - Health, reflection and the manifests of builds are not restricted.

use std::collections::{BTreeMap, BTreeSet};

use mesh_proto::mesh::release::v1::release_service_server::SERVICE_NAME as RELEASES;

use crate::call::{Call, Method, Methods, Protocol};

/// The names that intentions are about.
#[derive(Clone, Debug)]
pub struct System {
    /// The name of this process, which may be that of a service.
    pub process: &'static str,
    /// The services and processes of the system.
    pub names: BTreeSet<&'static str>,
    /// The methods.
    pub methods: Methods,
    /// The services of this process.
    pub local: Vec<&'static str>,
}

/// Who may call, by the service that is called.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Table(pub(super) BTreeMap<String, Vec<Rule>>);

/// What a caller may do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// The service that calls. `None`: each one.
    pub(super) caller: Option<String>,
    /// None of them denies all.
    pub(super) permissions: Vec<Permission>,
}

/// Whether some calls are allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Permission {
    pub(super) calls: Calls,
    pub(super) allows: bool,
}

/// Calls, by the path of their method: `/catalog.v1.CatalogService/GetTitle`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Calls {
    All,
    Path(String),
    /// Those whose path begins so.
    Below(String),
    /// None of gRPC.
    OtherVerbs,
}

/// A call of a service.
pub(in crate::auth) struct Intended {
    pub(super) service: String,
    /// The service that is called, if the call is in memory.
    pub(super) called: Option<&'static str>,
    pub(super) method: &'static Method,
}

impl Intended {
    pub(in crate::auth) fn of<B>(call: &Call<B>, service: &str) -> Self {
        Self { service: service.to_owned(), called: call.called(), method: call.method }
    }
}

impl Table {
    /// The callers that it names.
    pub(super) fn callers(&self) -> BTreeSet<&str> {
        self.0.values().flatten().filter_map(|rule| rule.caller.as_deref()).collect()
    }

    /// A contract that many services serve is that of each service of the process, unless the call says which: one of
    /// them has to allow the call, and none may deny it.
    pub(super) fn allows(&self, Intended { service, called, method }: &Intended, local: &[&'static str]) -> bool {
        if method.is_of_processes() || method.service == RELEASES {
            return true;
        }
        let own = [called.unwrap_or(method.package())];
        let called = if method.is_shared() && called.is_none() { local } else { &own };
        let decided = called
            .iter()
            .filter_map(|called| if called == service { Some(true) } else { self.decision(called, service, method) });
        decided.reduce(|all, one| all && one) == Some(true)
    }

    /// Whether a rule allows or denies a call. `None`: no rule is about it.
    fn decision(&self, called: &str, service: &str, method: &Method) -> Option<bool> {
        let mut rules = self.0.get(called)?.iter();
        let rule = rules.find(|rule| rule.caller.as_deref().is_none_or(|caller| caller == service))?;
        if rule.permissions.is_empty() {
            return Some(false);
        }
        let found = rule.permissions.iter().find(|permission| permission.is_about(method));
        found.map(|permission| permission.allows)
    }
}

impl Permission {
    /// HTTP to a service without a contract has any path: what allows a path does not allow it, and what denies one
    /// denies it.
    fn is_about(&self, method: &Method) -> bool {
        let Method { service, name, protocol, .. } = method;
        match &self.calls {
            Calls::All => true,
            _ if *protocol == Protocol::Http => !self.allows,
            Calls::Path(path) => path.strip_prefix('/').and_then(|path| path.split_once('/')) == Some((service, name)),
            Calls::Below(start) => format!("/{service}/{name}").starts_with(start),
            Calls::OtherVerbs => false,
        }
    }
}

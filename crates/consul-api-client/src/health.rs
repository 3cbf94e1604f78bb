//! Finding instances that are well.
//!
//! # Errors
//!
//! Every method may fail with any [`Error`] but `Configuration` and `NotFound`. After one, keep what you had, and ask
//! with an index of 0. An empty answer is not an error: it says that there are no instances, or, with ACLs, that the
//! token may not see them. Consul does not tell these apart; whether you see yourself does.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::address::host_port;
use crate::blocking::{Blocking, Indexed};
pub use crate::check::{CheckStatus, HealthCheck};
use crate::error::Error;
use crate::transport::{Call, Transport};
use crate::weights::Weights;
use crate::wire::{encode, or_default};

/// The endpoints under `/v1/health`.
#[derive(Clone, Copy)]
pub struct Health<'a> {
    transport: &'a Transport,
}

/// Which instances are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    service: String,
    passing: bool,
    tags: Vec<String>,
}

impl Query {
    /// All instances of a service, in whatever state.
    pub fn service(name: impl Into<String>) -> Self {
        Self { service: name.into(), passing: false, tags: Vec::new() }
    }

    /// Only those whose checks all pass, their node's included.
    #[must_use]
    pub fn passing(mut self) -> Self {
        self.passing = true;
        self
    }

    /// Only those with this tag; of several, with all of them.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }
}

/// One instance of a service, where it runs, and how it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Instance {
    /// Where it runs.
    pub node: Node,
    /// What it has said of itself.
    pub service: Service,
    /// Its checks, and those of its node.
    #[serde(default, deserialize_with = "or_default")]
    pub checks: Vec<HealthCheck>,
}

/// A machine with an agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node {
    /// Its name.
    #[serde(rename = "Node")]
    pub name: String,
    /// Its address.
    pub address: String,
    /// Where it is.
    #[serde(default, deserialize_with = "or_default")]
    pub datacenter: String,
    /// What else to know.
    #[serde(default, deserialize_with = "or_default")]
    pub meta: BTreeMap<String, String>,
}

/// What an instance has said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Service {
    /// The id of this instance; unique on its node only.
    #[serde(rename = "ID")]
    pub id: String,
    /// The name of the service.
    #[serde(rename = "Service")]
    pub name: String,
    /// What to select it by.
    #[serde(default, deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// What else to know.
    #[serde(default, deserialize_with = "or_default")]
    pub meta: BTreeMap<String, String>,
    /// Often empty: [`Instance::address`] knows better.
    #[serde(default)]
    pub address: String,
    /// 0: none was given.
    #[serde(default)]
    pub port: u16,
    /// How large a part of the calls it wants; [`Instance::weight`] looks at its checks too.
    #[serde(default)]
    pub weights: Weights,
}

impl Instance {
    /// The host to call: the instance's own, or that of its node if it has none.
    pub fn address(&self) -> &str {
        if self.service.address.is_empty() { &self.node.address } else { &self.service.address }
    }

    /// Where to call it, as a URL has it: `host:port`, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        host_port(self.address(), self.service.port)
    }

    /// The worst of its checks; passing if there are none.
    pub fn status(&self) -> CheckStatus {
        self.checks.iter().map(|check| check.status).max().unwrap_or(CheckStatus::Passing)
    }

    /// How large a part of the calls it wants as it is now; 0 if it is critical.
    pub fn weight(&self) -> u32 {
        match self.status() {
            CheckStatus::Passing => self.service.weights.passing,
            CheckStatus::Warning => self.service.weights.warning,
            CheckStatus::Critical => 0,
        }
    }
}

impl<'a> Health<'a> {
    pub(crate) fn new(transport: &'a Transport) -> Self {
        Self { transport }
    }

    /// The instances of a service, in no order; with [`Blocking`], when they may have changed.
    ///
    /// A service that nobody has registered has an empty list, and its watch is woken by changes of other services.
    pub async fn instances(
        self,
        query: &Query,
        blocking: impl Into<Option<Blocking>>,
    ) -> Result<Indexed<Vec<Instance>>, Error> {
        let mut call = Call::get(format!("/v1/health/service/{}", encode(&query.service)));
        if query.passing {
            call = call.with("passing", "true");
        }
        for tag in &query.tags {
            call = call.with("tag", tag);
        }
        self.transport.send_dc(call.blocking(blocking.into())).await?.indexed()
    }

    /// The checks of all instances of a service, without those of their nodes.
    pub async fn checks(
        self,
        service: &str,
        blocking: impl Into<Option<Blocking>>,
    ) -> Result<Indexed<Vec<HealthCheck>>, Error> {
        let call = Call::get(format!("/v1/health/checks/{}", encode(service)));
        self.transport.send_dc(call.blocking(blocking.into())).await?.indexed()
    }
}

#[cfg(test)]
mod tests {
    use super::{CheckStatus, Instance};

    /// As Consul 1.8.7 writes it, with what it writes besides, and `null` for what is empty.
    const ANSWER: &str = r#"{
        "Node": {"ID": "ee430ece-1b5b-c462-aa35-f613ef486832", "Node": "vm", "Address": "10.0.0.7",
            "Datacenter": "dc1", "TaggedAddresses": null, "Meta": null, "CreateIndex": 13, "ModifyIndex": 13},
        "Service": {"ID": "a-1", "Service": "a", "Tags": null, "Address": "", "Meta": {"version": "1"}, "Port": 50052,
            "Weights": {"Passing": 10, "Warning": 1}, "EnableTagOverride": false,
            "Proxy": {"MeshGateway": {}, "Expose": {}}, "Connect": {}, "CreateIndex": 14, "ModifyIndex": 14},
        "Checks": [{"Node": "vm", "CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing",
            "Notes": "", "Output": "Agent alive and reachable", "ServiceID": "", "ServiceName": "", "ServiceTags": [],
            "Type": "", "Definition": {}, "CreateIndex": 13, "ModifyIndex": 13}]}"#;

    #[test]
    fn without_an_address_of_its_own_it_has_that_of_its_node() {
        let mut instance: Instance = serde_json::from_str(ANSWER).unwrap();
        assert_eq!((instance.address(), instance.service.port), ("10.0.0.7", 50052));
        instance.service.address = "10.0.0.8".to_owned();
        assert_eq!(instance.address(), "10.0.0.8");
    }

    #[test]
    fn the_worst_check_decides_the_weight() {
        for (status, expected) in [("passing", 10), ("warning", 1), ("critical", 0), ("brand new", 0)] {
            let answer = ANSWER.replace(r#""Status": "passing""#, &format!(r#""Status": "{status}""#));
            assert_eq!(serde_json::from_str::<Instance>(&answer).unwrap().weight(), expected, "{status}");
        }
        assert!(CheckStatus::Critical > CheckStatus::Warning);
    }
}

//! Finds healthy instances.
//!
//! # Errors
//!
//! Every method may return any [`Error`] except `Configuration` and `NotFound`. After an error, keep the known
//! instances and restart from index 0. [`Error::is_transient`] says whether to retry.
//!
//! # Does not
//!
//! - Report missing ACL rules: an empty list means no instances or no permission to see them. A registered service can
//!   tell the two apart, because it sees itself only with permission.
//!
//! # See
//!
//! - [Health endpoints](https://developer.hashicorp.com/consul/api-docs/health)

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::address::host_port;
use crate::blocking::{Blocking, Indexed};
pub use crate::check::{CheckStatus, HealthCheck};
use crate::error::Error;
use crate::transport::{Request, Transport};
use crate::weights::Weights;
use crate::wire::{encode, or_default};

/// The endpoints under `/v1/health`.
#[derive(Clone, Copy)]
pub struct Health<'a> {
    transport: &'a Transport,
}

/// Selects the instances of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    service: String,
    passing: bool,
    tags: Vec<String>,
}

impl Query {
    /// Selects all instances of a service, regardless of health.
    pub fn service(name: impl Into<String>) -> Self {
        Self { service: name.into(), passing: false, tags: Vec::new() }
    }

    /// Keeps only instances whose checks all pass, including those of their node.
    #[must_use]
    pub fn passing(mut self) -> Self {
        self.passing = true;
        self
    }

    /// Keeps only instances with this tag. Several tags must all match.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }
}

/// One instance of a service with its node and checks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Instance {
    /// The node of the instance.
    pub node: Node,
    /// The registration of the instance.
    pub service: Service,
    /// The checks of the instance and of its node.
    #[serde(default, deserialize_with = "or_default")]
    pub checks: Vec<HealthCheck>,
}

/// A machine that runs an agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node {
    /// The name.
    #[serde(rename = "Node")]
    pub name: String,
    /// The host, without a port.
    pub address: String,
    /// The datacenter; empty if Consul sent none.
    #[serde(default, deserialize_with = "or_default")]
    pub datacenter: String,
    /// The metadata.
    #[serde(default, deserialize_with = "or_default")]
    pub meta: BTreeMap<String, String>,
}

/// The registration of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Service {
    /// The id of the instance, unique on its node only.
    #[serde(rename = "ID")]
    pub id: String,
    /// The name of the service.
    #[serde(rename = "Service")]
    pub name: String,
    /// Empty for a service, else what it is for others: `connect-proxy`, `mesh-gateway`, ….
    #[serde(default, deserialize_with = "or_default")]
    pub kind: String,
    /// The tags.
    #[serde(default, deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// The metadata.
    #[serde(default, deserialize_with = "or_default")]
    pub meta: BTreeMap<String, String>,
    /// The registered host, often empty. [`Instance::address`] falls back to the node's.
    #[serde(default)]
    pub address: String,
    /// The port to connect to. 0: none was registered.
    #[serde(default)]
    pub port: u16,
    /// The load-balancing weights. [`Instance::weight`] selects one by the state of the checks.
    #[serde(default)]
    pub weights: Weights,
}

impl Instance {
    /// Returns the host to connect to: the instance's own, or the node's if that is empty.
    pub fn address(&self) -> &str {
        if self.service.address.is_empty() { &self.node.address } else { &self.service.address }
    }

    /// Returns `host:port` as in a URL, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        host_port(self.address(), self.service.port)
    }

    /// Returns the worst state of all checks; passing if there are none.
    pub fn status(&self) -> CheckStatus {
        self.checks.iter().map(|check| check.status).max().unwrap_or(CheckStatus::Passing)
    }

    /// Returns the weight for the current state; 0 if it is critical.
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

    /// Returns the instances of a service, in no particular order. With [`Blocking`], waits until they may have
    /// changed.
    ///
    /// An unknown service has an empty list, and changes of other services end its blocking queries early.
    pub async fn instances(
        self,
        query: &Query,
        blocking: impl Into<Option<Blocking>>,
    ) -> Result<Indexed<Vec<Instance>>, Error> {
        let mut request = Request::get(format!("/v1/health/service/{}", encode(&query.service)));
        if query.passing {
            request = request.parameter("passing", "true");
        }
        for tag in &query.tags {
            request = request.parameter("tag", tag);
        }
        self.transport.send_dc(request.blocking(blocking.into())).await?.indexed()
    }

    /// Returns the checks of all instances of a service, without those of their nodes.
    pub async fn checks(
        self,
        service: &str,
        blocking: impl Into<Option<Blocking>>,
    ) -> Result<Indexed<Vec<HealthCheck>>, Error> {
        let request = Request::get(format!("/v1/health/checks/{}", encode(service)));
        self.transport.send_dc(request.blocking(blocking.into())).await?.indexed()
    }
}

#[cfg(test)]
mod tests {
    use super::{CheckStatus, Instance};

    /// A response of Consul 1.8.7, with fields that this crate ignores and `null` for empty collections.
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
    fn address_falls_back_to_the_node() {
        let mut instance: Instance = serde_json::from_str(ANSWER).unwrap();
        assert_eq!((instance.address(), instance.service.port), ("10.0.0.7", 50052));
        instance.service.address = "10.0.0.8".to_owned();
        assert_eq!(instance.address(), "10.0.0.8");
    }

    #[test]
    fn weight_follows_the_worst_check() {
        for (status, expected) in [("passing", 10), ("warning", 1), ("critical", 0), ("brand new", 0)] {
            let answer = ANSWER.replace(r#""Status": "passing""#, &format!(r#""Status": "{status}""#));
            assert_eq!(serde_json::from_str::<Instance>(&answer).unwrap().weight(), expected, "{status}");
        }
        assert!(CheckStatus::Critical > CheckStatus::Warning);
    }
}

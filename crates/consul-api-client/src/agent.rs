//! Registers services with the local agent and reports on their checks.
//!
//! # Errors
//!
//! Every method may return any [`Error`] except `Configuration`. A method's *Errors* section adds its own cases.
//! [`Error::is_transient`] says whether to retry.
//!
//! # Does not
//!
//! - Write to the catalog: anti-entropy removes catalog entries of a node that its agent does not know.
//!
//! # See
//!
//! - [Agent endpoints](https://developer.hashicorp.com/consul/api-docs/agent)

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::{CheckStatus, HealthCheck};
use crate::error::Error;
use crate::registration::Registration;
use crate::transport::{Request, Transport};
use crate::weights::Weights;
use crate::wire::{encode, or_default};

/// The endpoints under `/v1/agent`.
#[derive(Clone, Copy)]
pub struct Agent<'a> {
    transport: &'a Transport,
}

/// The configuration of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// The version of Consul, such as `1.8.7`.
    pub version: String,
    /// The name of the node.
    pub node_name: String,
    /// The datacenter.
    pub datacenter: String,
    /// Whether the agent is a server.
    pub server: bool,
}

/// One instance as the agent stores it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Service {
    /// The id of the instance.
    #[serde(rename = "ID")]
    pub id: String,
    /// The name of the service.
    #[serde(rename = "Service")]
    pub name: String,
    /// The tags.
    #[serde(default, deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// The metadata.
    #[serde(default, deserialize_with = "or_default")]
    pub meta: BTreeMap<String, String>,
    /// The host to connect to. Empty: the node's address.
    #[serde(default)]
    pub address: String,
    /// The port to connect to. 0: none was registered.
    #[serde(default)]
    pub port: u16,
    /// The load-balancing weights.
    #[serde(default)]
    pub weights: Weights,
    /// A hash over the fields above, for [`Agent::service_changed`]. Empty in [`Agent::services`].
    #[serde(default)]
    pub content_hash: String,
}

/// The new state of a TTL check.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Update<'a> {
    status: CheckStatus,
    output: &'a str,
}

impl<'a> Agent<'a> {
    pub(crate) fn new(transport: &'a Transport) -> Self {
        Self { transport }
    }

    /// Returns the configuration of the agent. With ACLs, needs `agent:read`.
    pub async fn info(self) -> Result<Info, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct SelfResponse {
            config: Info,
        }
        self.transport.send(Request::get("/v1/agent/self")).await?.json().map(|response: SelfResponse| response.config)
    }

    /// Registers an instance, or replaces the instance with the same id and all its checks. With ACLs, needs
    /// `service:write`.
    ///
    /// Idempotent: an identical registration notifies no watch, but restarts the interval of its checks.
    ///
    /// # Errors
    ///
    /// - [`Error::Status`] 400: the registration is invalid; the message names the cause. Do not retry.
    /// - [`Error::Timeout`]: the instance may still appear later.
    pub async fn register(self, registration: &Registration) -> Result<(), Error> {
        let request = Request::put("/v1/agent/service/register").parameter("replace-existing-checks", "true");
        self.transport.send(request.json(registration)).await.map(drop)
    }

    /// Deregisters an instance and its checks. Watches see the change within milliseconds. With ACLs, needs
    /// `service:write`.
    ///
    /// Idempotent: accepts an unknown id, because versions of Consul answer it differently.
    pub async fn deregister(self, id: &str) -> Result<(), Error> {
        let request = Request::put(format!("/v1/agent/service/deregister/{}", encode(id)));
        match self.transport.send(request).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Returns all instances of this agent by id; with ACLs, only those that the token may read.
    pub async fn services(self) -> Result<BTreeMap<String, Service>, Error> {
        self.transport.send(Request::get("/v1/agent/services")).await?.json()
    }

    /// Returns one instance; `None` if the agent does not know it.
    pub async fn service(self, id: &str) -> Result<Option<Service>, Error> {
        self.fetch_service(id, |request| request).await
    }

    /// Returns one instance once its hash differs from `content_hash`, once it is deregistered, or after `wait`.
    ///
    /// `None` comes at once from an agent that lost its state in a restart: register again.
    pub async fn service_changed(self, id: &str, content_hash: &str, wait: Duration) -> Result<Option<Service>, Error> {
        self.fetch_service(id, |request| request.parameter("hash", content_hash).wait(wait)).await
    }

    async fn fetch_service(self, id: &str, adjust: impl FnOnce(Request) -> Request) -> Result<Option<Service>, Error> {
        let request = adjust(Request::get(format!("/v1/agent/service/{}", encode(id))));
        match self.transport.send(request).await {
            Ok(response) => response.json().map(Some),
            Err(error) => error.none(),
        }
    }

    /// Returns all checks of this agent by id.
    pub async fn checks(self) -> Result<BTreeMap<String, HealthCheck>, Error> {
        self.transport.send(Request::get("/v1/agent/checks")).await?.json()
    }

    /// Hides an instance from discovery without deregistering it. Idempotent. Consul displays `reason`.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]: the agent does not know the instance.
    pub async fn begin_service_maintenance(self, id: &str, reason: &str) -> Result<(), Error> {
        let request = Request::put(format!("/v1/agent/service/maintenance/{}", encode(id)));
        self.transport.send(request.parameter("enable", "true").parameter("reason", reason)).await.map(drop)
    }

    /// Ends the maintenance of an instance. Idempotent.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]: the agent does not know the instance.
    pub async fn end_service_maintenance(self, id: &str) -> Result<(), Error> {
        let request = Request::put(format!("/v1/agent/service/maintenance/{}", encode(id)));
        self.transport.send(request.parameter("enable", "false")).await.map(drop)
    }

    /// Hides all instances of this node from discovery. Idempotent. With ACLs, needs `node:write`.
    pub async fn begin_maintenance(self, reason: &str) -> Result<(), Error> {
        let request = Request::put("/v1/agent/maintenance").parameter("enable", "true").parameter("reason", reason);
        self.transport.send(request).await.map(drop)
    }

    /// Ends the maintenance of this node. Idempotent.
    pub async fn end_maintenance(self) -> Result<(), Error> {
        self.transport.send(Request::put("/v1/agent/maintenance").parameter("enable", "false")).await.map(drop)
    }

    /// Reports a TTL check as passing and restarts its TTL. Idempotent.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]: the agent does not know the check, for example after a restart. Register again.
    pub async fn pass(self, check_id: &str, output: &str) -> Result<(), Error> {
        self.update_check(check_id, CheckStatus::Passing, output).await
    }

    /// Reports a TTL check as warning and restarts its TTL. Idempotent.
    ///
    /// # Errors
    ///
    /// As [`pass`](Self::pass).
    pub async fn warn(self, check_id: &str, output: &str) -> Result<(), Error> {
        self.update_check(check_id, CheckStatus::Warning, output).await
    }

    /// Reports a TTL check as critical. Idempotent.
    ///
    /// # Errors
    ///
    /// As [`pass`](Self::pass).
    pub async fn fail(self, check_id: &str, output: &str) -> Result<(), Error> {
        self.update_check(check_id, CheckStatus::Critical, output).await
    }

    async fn update_check(self, check_id: &str, status: CheckStatus, output: &str) -> Result<(), Error> {
        // The output goes into the body, because it may exceed the length of a URL.
        let request = Request::put(format!("/v1/agent/check/update/{}", encode(check_id)));
        self.transport.send(request.json(&Update { status, output })).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::Service;

    #[test]
    fn service_decodes_a_response_of_consul() {
        let service: Service = serde_json::from_str(
            r#"{"ID":"a-1","Service":"a","Tags":null,"Meta":null,"Port":0,"Address":"",
                "TaggedAddresses":{"lan":{"Address":"10.0.0.1","Port":1}},"Weights":{"Passing":1,"Warning":1},
                "EnableTagOverride":false,"ContentHash":"c9ab2ba8a2bcb2a4","Datacenter":"dc1"}"#,
        )
        .unwrap();
        assert_eq!((service.id.as_str(), service.name.as_str()), ("a-1", "a"));
        assert!(service.tags.is_empty() && service.meta.is_empty());
        assert_eq!(service.content_hash, "c9ab2ba8a2bcb2a4");
    }
}

//! What a service does with its own agent: registering, and being looked after.
//!
//! Registering goes to the agent and not to the catalog: agents compare the catalog with what they know, and undo what
//! they do not.
//!
//! # Errors
//!
//! Every method may fail with any [`Error`] but `Configuration`; what each says under *Errors* is what it means there.
//! [`Error::is_transient`] says whether to retry.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::{CheckStatus, HealthCheck};
use crate::error::Error;
use crate::registration::Registration;
use crate::transport::{Call, Transport};
use crate::weights::Weights;
use crate::wire::{encode, or_default};

/// The endpoints under `/v1/agent`.
#[derive(Clone, Copy)]
pub struct Agent<'a> {
    transport: &'a Transport,
}

/// What an agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// Such as `1.8.7`.
    pub version: String,
    /// The node it runs on.
    pub node_name: String,
    /// Where it is.
    pub datacenter: String,
    /// Whether it is one of the servers.
    pub server: bool,
}

/// One service of an agent, as the agent holds it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Service {
    /// The id of this instance.
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
    /// Empty: that of the node.
    #[serde(default)]
    pub address: String,
    /// 0: none was given.
    #[serde(default)]
    pub port: u16,
    /// How large a part of the calls it wants.
    #[serde(default)]
    pub weights: Weights,
    /// Changes whenever anything of the above does: what to wait behind. Empty in a list of services.
    #[serde(default)]
    pub content_hash: String,
}

/// A report of a TTL check.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report<'a> {
    status: CheckStatus,
    output: &'a str,
}

impl<'a> Agent<'a> {
    pub(crate) fn new(transport: &'a Transport) -> Self {
        Self { transport }
    }

    /// Who it is. With ACLs, needs `agent:read`.
    pub async fn info(self) -> Result<Info, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            config: Info,
        }
        self.transport.send(Call::get("/v1/agent/self")).await?.json().map(|answer: Answer| answer.config)
    }

    /// Registers an instance, or replaces the one of that id together with its checks: what was there before and is
    /// not said any more goes away. With ACLs, needs `service:write`.
    ///
    /// Idempotent: the same again changes nothing and wakes nobody, but its checks begin a new interval.
    ///
    /// # Errors
    ///
    /// - [`Error::Status`] 400: Consul refuses what was said, and its text says why. Never retry.
    /// - [`Error::Timeout`]: the instance may appear later all the same.
    pub async fn register(self, registration: &Registration) -> Result<(), Error> {
        let call = Call::put("/v1/agent/service/register").with("replace-existing-checks", "true");
        self.transport.send(call.json(registration)).await.map(drop)
    }

    /// Takes an instance out, with its checks; those who watch see it within milliseconds. No difference is made
    /// whether it was there: versions of Consul do not agree on what that is.
    pub async fn deregister(self, id: &str) -> Result<(), Error> {
        let call = Call::put(format!("/v1/agent/service/deregister/{}", encode(id)));
        match self.transport.send(call).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// All instances of this agent by id; with ACLs, those that may be read.
    pub async fn services(self) -> Result<BTreeMap<String, Service>, Error> {
        self.transport.send(Call::get("/v1/agent/services")).await?.json()
    }

    /// One instance; `None` if the agent does not know it.
    pub async fn service(self, id: &str) -> Result<Option<Service>, Error> {
        self.get_service(id, |call| call).await
    }

    /// The same, held until the instance differs from the one that had `content_hash`, is gone, or `wait` is over.
    ///
    /// An agent that has restarted without its memory answers `None` at once: this is how to notice that one has to
    /// register again.
    pub async fn service_changed(self, id: &str, content_hash: &str, wait: Duration) -> Result<Option<Service>, Error> {
        self.get_service(id, |call| call.with("hash", content_hash).waiting(wait)).await
    }

    async fn get_service(self, id: &str, how: impl FnOnce(Call) -> Call) -> Result<Option<Service>, Error> {
        let call = how(Call::get(format!("/v1/agent/service/{}", encode(id))));
        match self.transport.send(call).await {
            Ok(answer) => answer.json().map(Some),
            Err(error) => error.none(),
        }
    }

    /// All checks of this agent by id.
    pub async fn checks(self) -> Result<BTreeMap<String, HealthCheck>, Error> {
        self.transport.send(Call::get("/v1/agent/checks")).await?.json()
    }

    /// Takes an instance out of discovery without deregistering it; idempotent. The reason is shown to people.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]: it is not there.
    pub async fn begin_service_maintenance(self, id: &str, reason: &str) -> Result<(), Error> {
        let call = Call::put(format!("/v1/agent/service/maintenance/{}", encode(id)));
        self.transport.send(call.with("enable", "true").with("reason", reason)).await.map(drop)
    }

    /// Puts it back.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]: it is not there.
    pub async fn end_service_maintenance(self, id: &str) -> Result<(), Error> {
        let call = Call::put(format!("/v1/agent/service/maintenance/{}", encode(id)));
        self.transport.send(call.with("enable", "false")).await.map(drop)
    }

    /// Takes all of this node out of discovery; idempotent. With ACLs, needs `node:write`.
    pub async fn begin_maintenance(self, reason: &str) -> Result<(), Error> {
        let call = Call::put("/v1/agent/maintenance").with("enable", "true").with("reason", reason);
        self.transport.send(call).await.map(drop)
    }

    /// Puts it back.
    pub async fn end_maintenance(self) -> Result<(), Error> {
        self.transport.send(Call::put("/v1/agent/maintenance").with("enable", "false")).await.map(drop)
    }

    /// Tells a TTL check that all is well.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]: the agent does not know the check, because it has restarted: register again.
    pub async fn pass(self, check_id: &str, output: &str) -> Result<(), Error> {
        self.report(check_id, CheckStatus::Passing, output).await
    }

    /// Tells it that something is not as it should be.
    ///
    /// # Errors
    ///
    /// As [`pass`](Self::pass).
    pub async fn warn(self, check_id: &str, output: &str) -> Result<(), Error> {
        self.report(check_id, CheckStatus::Warning, output).await
    }

    /// Tells it not to send calls.
    ///
    /// # Errors
    ///
    /// As [`pass`](Self::pass).
    pub async fn fail(self, check_id: &str, output: &str) -> Result<(), Error> {
        self.report(check_id, CheckStatus::Critical, output).await
    }

    async fn report(self, check_id: &str, status: CheckStatus, output: &str) -> Result<(), Error> {
        // In the body, because an output may be longer than what fits into a URL.
        let call = Call::put(format!("/v1/agent/check/update/{}", encode(check_id)));
        self.transport.send(call.json(&Report { status, output })).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::Service;

    #[test]
    fn a_service_reads_as_consul_writes_it() {
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

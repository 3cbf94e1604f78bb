//! The registration that a service sends to its agent.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::check::Check;
use crate::weights::Weights;

/// One instance of a service, to register with `Agent::register`.
///
/// Unset fields are not sent, so Consul's defaults apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Registration {
    name: String,
    #[serde(rename = "ID", skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    meta: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<Weights>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<Check>,
}

impl Registration {
    /// Describes an instance of the service `name`. The id defaults to `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            id: None,
            address: None,
            port: None,
            tags: Vec::new(),
            meta: BTreeMap::new(),
            weights: None,
            checks: Vec::new(),
        }
    }

    /// Sets the id, unique on the agent. An instance replaces another with the same id.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets the host that callers connect to. Default: the node's address.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// Sets the port that callers connect to. Default: none.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Adds a tag. Queries filter by tags.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Adds a metadata entry. A key has at most 128 characters: letters, digits, `-` and `_`.
    #[must_use]
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.meta.insert(key.into(), value.into());
        self
    }

    /// Sets the load-balancing weights. Default: 1 and 1.
    #[must_use]
    pub fn weights(mut self, weights: Weights) -> Self {
        self.weights = Some(weights);
        self
    }

    /// Adds a health check.
    #[must_use]
    pub fn check(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{Check, Registration, Weights};

    #[test]
    fn serialization_omits_unset_fields() {
        assert_eq!(serde_json::to_value(Registration::new("artwork")).unwrap(), json!({"Name": "artwork"}));
    }

    #[test]
    fn serialization_uses_consuls_field_names() {
        let check = Check::grpc("127.0.0.1:50052/artwork.v1.ArtworkService", Duration::from_secs(1))
            .id("artwork-1:grpc")
            .timeout(Duration::from_millis(500))
            .deregister_after(Duration::from_secs(60));
        let registration = Registration::new("artwork")
            .id("artwork-1")
            .address("127.0.0.1")
            .port(50052)
            .tag("v1")
            .meta("version", "1.0.0")
            .weights(Weights { passing: 10, warning: 1 })
            .check(check);
        let expected = json!({
            "ID": "artwork-1", "Name": "artwork", "Address": "127.0.0.1", "Port": 50052, "Tags": ["v1"],
            "Meta": {"version": "1.0.0"}, "Weights": {"Passing": 10, "Warning": 1},
            "Checks": [{
                "CheckID": "artwork-1:grpc", "GRPC": "127.0.0.1:50052/artwork.v1.ArtworkService", "GRPCUseTLS": false,
                "Interval": "1000ms", "Timeout": "500ms", "DeregisterCriticalServiceAfter": "60000ms",
            }],
        });
        assert_eq!(serde_json::to_value(registration).unwrap(), expected);
    }
}

//! What a service tells its agent about itself.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::check::Check;
use crate::weights::Weights;

/// One instance of a service.
///
/// What is not said is not sent, so Consul's own defaults hold.
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
    /// An instance of the service `name`, whose id is `name` too.
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

    /// What tells it from other instances on the same agent. Two with one id would replace each other.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Where it listens. Without an address, callers use that of its node.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// One more word to select instances by.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// One more thing to know about it. Keys hold letters, digits, `-` and `_`, and at most 128 of them.
    #[must_use]
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.meta.insert(key.into(), value.into());
        self
    }

    /// How large a part of the calls it wants.
    #[must_use]
    pub fn weights(mut self, weights: Weights) -> Self {
        self.weights = Some(weights);
        self
    }

    /// One more check of its health.
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
    fn only_what_is_said_is_sent() {
        assert_eq!(serde_json::to_value(Registration::new("artwork")).unwrap(), json!({"Name": "artwork"}));
    }

    #[test]
    fn all_that_is_said_is_sent_in_consuls_spelling() {
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

//! Health checks: their definition and their state.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wire::{duration, optional_duration};

/// A health check that the agent runs. It is critical until it passes for the first time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    #[serde(flatten)]
    kind: Kind,
    #[serde(rename = "CheckID", skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_duration")]
    timeout: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_duration")]
    deregister_critical_service_after: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<CheckStatus>,
    #[serde(rename = "TLSSkipVerify", skip_serializing_if = "std::ops::Not::not")]
    tls_skip_verify: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Kind {
    Grpc {
        #[serde(rename = "GRPC")]
        target: String,
        #[serde(rename = "GRPCUseTLS")]
        tls: bool,
        #[serde(rename = "Interval", serialize_with = "duration")]
        interval: Duration,
    },
    Http {
        #[serde(rename = "HTTP")]
        url: String,
        #[serde(rename = "Interval", serialize_with = "duration")]
        interval: Duration,
    },
    Tcp {
        #[serde(rename = "TCP")]
        address: String,
        #[serde(rename = "Interval", serialize_with = "duration")]
        interval: Duration,
    },
    Ttl {
        #[serde(rename = "TTL", serialize_with = "duration")]
        ttl: Duration,
    },
}

impl Check {
    /// Calls `grpc.health.v1.Health/Check` every `interval`. `target` is `host:port` for the whole server (the service
    /// ""), or `host:port/package.Service`.
    pub fn grpc(target: impl Into<String>, interval: Duration) -> Self {
        Self::new(Kind::Grpc { target: target.into(), tls: false, interval })
    }

    /// As [`grpc`](Self::grpc), over TLS. The agent verifies the certificate unless
    /// [`tls_skip_verify`](Self::tls_skip_verify) is set.
    pub fn grpc_tls(target: impl Into<String>, interval: Duration) -> Self {
        Self::new(Kind::Grpc { target: target.into(), tls: true, interval })
    }

    /// Sends GET to a URL every `interval`: 2xx is passing, 429 warning, any other result critical.
    pub fn http(url: impl Into<String>, interval: Duration) -> Self {
        Self::new(Kind::Http { url: url.into(), interval })
    }

    /// Connects to `host:port` every `interval`.
    pub fn tcp(address: impl Into<String>, interval: Duration) -> Self {
        Self::new(Kind::Tcp { address: address.into(), interval })
    }

    /// Expects a report, such as `Agent::pass`, within every `ttl`; without one it becomes critical.
    pub fn ttl(ttl: Duration) -> Self {
        Self::new(Kind::Ttl { ttl })
    }

    fn new(kind: Kind) -> Self {
        Self {
            kind,
            id: None,
            name: None,
            timeout: None,
            deregister_critical_service_after: None,
            status: None,
            tls_skip_verify: false,
        }
    }

    /// Sets the id. Default: `service:<instance id>`, followed by a number if the instance has several checks.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets the display name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the time limit of one probe. Consul's default: 10 seconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Deregisters the instance after it was critical for this time: at least 1 minute. Consul looks every 30 seconds.
    /// Default: never.
    #[must_use]
    pub fn deregister_after(mut self, after: Duration) -> Self {
        self.deregister_critical_service_after = Some(after);
        self
    }

    /// Sets the state before the first probe. Default: critical, which keeps traffic away until the check passes.
    #[must_use]
    pub fn initial(mut self, status: CheckStatus) -> Self {
        self.status = Some(status);
        self
    }

    /// Skips certificate verification of HTTP and gRPC probes.
    #[must_use]
    pub fn tls_skip_verify(mut self) -> Self {
        self.tls_skip_verify = true;
        self
    }
}

/// The state of a check, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// Healthy.
    Passing,
    /// Degraded, but able to serve.
    Warning,
    /// Unable to serve. Unknown states are read as critical.
    #[serde(other)]
    Critical,
}

/// A check as Consul reports it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthCheck {
    /// The id, unique on its node.
    #[serde(rename = "CheckID")]
    pub id: String,
    /// The display name.
    #[serde(default)]
    pub name: String,
    /// The current state.
    pub status: CheckStatus,
    /// The output of the last probe.
    #[serde(default)]
    pub output: String,
    /// The id of the instance; empty for a check of the node.
    #[serde(default, rename = "ServiceID")]
    pub service_id: String,
    /// The name of the service; empty for a check of the node.
    #[serde(default)]
    pub service_name: String,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{Check, CheckStatus};

    #[test]
    fn serialization_of_a_kind_has_only_its_fields() {
        let second = Duration::from_secs(1);
        let assert_json = |check: Check, expected| assert_eq!(serde_json::to_value(check).unwrap(), expected);
        assert_json(Check::http("http://a/", second), json!({"HTTP": "http://a/", "Interval": "1000ms"}));
        assert_json(Check::tcp("a:1", second), json!({"TCP": "a:1", "Interval": "1000ms"}));
        assert_json(Check::ttl(second).initial(CheckStatus::Passing), json!({"TTL": "1000ms", "Status": "passing"}));
        let grpc = json!({"GRPC": "a:1", "GRPCUseTLS": true, "Interval": "1000ms", "TLSSkipVerify": true});
        assert_json(Check::grpc_tls("a:1", second).tls_skip_verify(), grpc);
    }
}

//! How an agent finds out whether an instance is well.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::wire::{duration, optional_duration};

/// How the agent finds out whether an instance is well. It is critical until it has passed once.
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
    /// Calls `grpc.health.v1.Health/Check`. `target` is `host:port`, which asks for the whole server (the service ""),
    /// or `host:port/package.Service`.
    pub fn grpc(target: impl Into<String>, interval: Duration) -> Self {
        Self::new(Kind::Grpc { target: target.into(), tls: false, interval })
    }

    /// The same over TLS. The agent verifies the certificate, unless [`tls_skip_verify`](Self::tls_skip_verify) is set.
    pub fn grpc_tls(target: impl Into<String>, interval: Duration) -> Self {
        Self::new(Kind::Grpc { target: target.into(), tls: true, interval })
    }

    /// Gets a URL: 2xx passes, 429 warns, all else is critical.
    pub fn http(url: impl Into<String>, interval: Duration) -> Self {
        Self::new(Kind::Http { url: url.into(), interval })
    }

    /// Connects to `host:port`.
    pub fn tcp(address: impl Into<String>, interval: Duration) -> Self {
        Self::new(Kind::Tcp { address: address.into(), interval })
    }

    /// Waits to be told, by `Agent::pass`, within every `ttl`.
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

    /// What it is called by; without it, `service:<id of the instance>`, with a number if there are several.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// What people see.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How long one probe may take; Consul's default is 10 seconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// When to forget an instance that stays critical: after a minute at least, and looked at twice a minute.
    #[must_use]
    pub fn deregister_after(mut self, after: Duration) -> Self {
        self.deregister_critical_service_after = Some(after);
        self
    }

    /// What it is before the first probe. Critical, unless something else is said: calls must not come before that.
    #[must_use]
    pub fn initial(mut self, status: CheckStatus) -> Self {
        self.status = Some(status);
        self
    }

    /// Accepts any certificate, for HTTP and gRPC.
    #[must_use]
    pub fn tls_skip_verify(mut self) -> Self {
        self.tls_skip_verify = true;
        self
    }
}

/// How a check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// All is well.
    Passing,
    /// It can be called, but rather not.
    Warning,
    /// It is not to be called. Also what this crate does not know is read as this.
    #[serde(other)]
    Critical,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthCheck {
    /// What it is called by.
    #[serde(rename = "CheckID")]
    pub id: String,
    /// What people see.
    #[serde(default)]
    pub name: String,
    /// How it stands.
    pub status: CheckStatus,
    /// What the last probe said.
    #[serde(default)]
    pub output: String,
    /// Empty: a check of the node.
    #[serde(default, rename = "ServiceID")]
    pub service_id: String,
    /// Empty: a check of the node.
    #[serde(default)]
    pub service_name: String,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{Check, CheckStatus};

    #[test]
    fn every_kind_has_its_own_fields_and_no_others() {
        let second = Duration::from_secs(1);
        let is = |check: Check, expected| assert_eq!(serde_json::to_value(check).unwrap(), expected);
        is(Check::http("http://a/", second), json!({"HTTP": "http://a/", "Interval": "1000ms"}));
        is(Check::tcp("a:1", second), json!({"TCP": "a:1", "Interval": "1000ms"}));
        is(Check::ttl(second).initial(CheckStatus::Passing), json!({"TTL": "1000ms", "Status": "passing"}));
        let grpc = json!({"GRPC": "a:1", "GRPCUseTLS": true, "Interval": "1000ms", "TLSSkipVerify": true});
        is(Check::grpc_tls("a:1", second).tls_skip_verify(), grpc);
    }
}

//! Manages sessions: a session holds locks and releases them when its holder fails.
//!
//! # Errors
//!
//! Every method may return any [`Error`] except `Configuration`. [`Error::is_transient`] says whether to retry.
//!
//! # See
//!
//! - [Sessions](https://developer.hashicorp.com/consul/api-docs/session)

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::transport::{Request, Transport};
use crate::wire::{encode, optional_duration};

/// The endpoints under `/v1/session`.
#[derive(Clone, Copy)]
pub struct Sessions<'a> {
    transport: &'a Transport,
}

/// The settings of a new session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Session {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(rename = "TTL", skip_serializing_if = "Option::is_none", serialize_with = "optional_duration")]
    ttl: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    behavior: Option<Behavior>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_duration")]
    lock_delay: Option<Duration>,
}

/// The effect of a session's end on the keys that it has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Behavior {
    /// Unlocks the keys. The default.
    Release,
    /// Deletes the keys.
    Delete,
}

/// An existing session.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// The id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The display name.
    #[serde(default)]
    pub name: String,
    /// The node whose failure ends the session.
    pub node: String,
    /// The effect on locked keys.
    pub behavior: Behavior,
    /// The TTL in Go's format, such as `10s`; empty without one.
    #[serde(default, rename = "TTL")]
    pub ttl: String,
}

impl Session {
    /// Describes a session without a TTL, which ends with its node.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the display name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Ends the session unless it is renewed within `ttl`: 10 seconds to 24 hours. Consul may take twice as long. Renew
    /// every third of it.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets the effect on locked keys. Default: [`Behavior::Release`].
    #[must_use]
    pub fn behavior(mut self, behavior: Behavior) -> Self {
        self.behavior = Some(behavior);
        self
    }

    /// Sets how long a lost lock stays unavailable, so that a late holder can notice the loss: 0 to 60 seconds.
    /// Consul's default: 15 seconds.
    #[must_use]
    pub fn lock_delay(mut self, delay: Duration) -> Self {
        self.lock_delay = Some(delay);
        self
    }
}

impl<'a> Sessions<'a> {
    pub(crate) fn new(transport: &'a Transport) -> Self {
        Self { transport }
    }

    /// Creates a session on the agent's node and returns its id. With ACLs, needs `session:write`.
    ///
    /// Not idempotent: after a lost response, a retry creates a second session; the first ends with its TTL.
    pub async fn create(self, session: &Session) -> Result<String, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "UPPERCASE")]
        struct Created {
            id: String,
        }
        let response = self.transport.send_dc(Request::put("/v1/session/create").json(session)).await?;
        response.json().map(|created: Created| created.id)
    }

    /// Restarts the TTL of a session. Idempotent.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]: the session has ended and its locks are lost. Step down.
    pub async fn renew(self, id: &str) -> Result<(), Error> {
        self.transport.send_dc(Request::put(format!("/v1/session/renew/{}", encode(id)))).await.map(drop)
    }

    /// Ends a session. Idempotent: accepts an unknown id.
    pub async fn destroy(self, id: &str) -> Result<(), Error> {
        self.transport.send_dc(Request::put(format!("/v1/session/destroy/{}", encode(id)))).await.map(drop)
    }

    /// Returns a session; `None` if it has ended.
    pub async fn info(self, id: &str) -> Result<Option<Info>, Error> {
        let response = self.transport.send_dc(Request::get(format!("/v1/session/info/{}", encode(id)))).await?;
        Ok(response.json::<Vec<Info>>()?.into_iter().next())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{Behavior, Info, Session};

    #[test]
    fn serialization_uses_consuls_field_names() {
        let session = Session::new().ttl(Duration::from_secs(10)).behavior(Behavior::Delete).lock_delay(Duration::ZERO);
        let expected = json!({"TTL": "10000ms", "Behavior": "delete", "LockDelay": "0ms"});
        assert_eq!(serde_json::to_value(session).unwrap(), expected);
        assert_eq!(serde_json::to_value(Session::new()).unwrap(), json!({}));

        let answer = r#"{"ID":"7ee3619b-a51e-e35b-79e9-0ce490abf9e9","Name":"","Node":"vm","LockDelay":1000000000,
            "Behavior":"delete","TTL":"10s","NodeChecks":["serfHealth"],"ServiceChecks":null,"CreateIndex":15}"#;
        let info: Info = serde_json::from_str(answer).unwrap();
        assert_eq!((info.ttl.as_str(), info.behavior), ("10s", Behavior::Delete));
    }
}

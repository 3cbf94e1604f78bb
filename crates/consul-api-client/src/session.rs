//! Sessions: what holds a lock, and lets go of it when its holder is gone.
//!
//! # Errors
//!
//! Every method may fail with any [`Error`] but `Configuration`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::transport::{Call, Transport};
use crate::wire::{encode, optional_duration};

/// The endpoints under `/v1/session`.
#[derive(Clone, Copy)]
pub struct Sessions<'a> {
    transport: &'a Transport,
}

/// What a session is to be.
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

/// What becomes of the keys that a session has locked, when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Behavior {
    /// They are unlocked. The default.
    Release,
    /// They are deleted.
    Delete,
}

/// A session that there is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// What people see.
    #[serde(default)]
    pub name: String,
    /// The node whose failure ends it.
    pub node: String,
    /// What becomes of its keys.
    pub behavior: Behavior,
    /// As Consul writes it: `10s`, or empty if it has none.
    #[serde(default, rename = "TTL")]
    pub ttl: String,
}

impl Session {
    /// One without a TTL, that ends with its node.
    pub fn new() -> Self {
        Self::default()
    }

    /// What people see.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Ends it if it is not renewed for so long: 10 seconds to 24 hours. Consul takes up to twice that; renew it at a
    /// third.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// What becomes of its keys.
    #[must_use]
    pub fn behavior(mut self, behavior: Behavior) -> Self {
        self.behavior = Some(behavior);
        self
    }

    /// For how long nobody gets a lock that was lost, so that a late holder can find out; Consul's default is
    /// 15 seconds, and 60 are the most. Zero means none.
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

    /// Makes a session on the agent's node, and gives its id. Not idempotent: what a lost answer leaves behind ends
    /// with its TTL. With ACLs, needs `session:write`.
    pub async fn create(self, session: &Session) -> Result<String, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "UPPERCASE")]
        struct Created {
            id: String,
        }
        let answer = self.transport.send_dc(Call::put("/v1/session/create").json(session)).await?;
        answer.json().map(|created: Created| created.id)
    }

    /// Lets its TTL begin anew.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]: it has ended, and its locks are lost: step down.
    pub async fn renew(self, id: &str) -> Result<(), Error> {
        self.transport.send_dc(Call::put(format!("/v1/session/renew/{}", encode(id)))).await.map(drop)
    }

    /// Ends it; no difference is made whether there was one.
    pub async fn destroy(self, id: &str) -> Result<(), Error> {
        self.transport.send_dc(Call::put(format!("/v1/session/destroy/{}", encode(id)))).await.map(drop)
    }

    /// What there is to know; `None` if it has ended.
    pub async fn info(self, id: &str) -> Result<Option<Info>, Error> {
        let answer = self.transport.send_dc(Call::get(format!("/v1/session/info/{}", encode(id)))).await?;
        Ok(answer.json::<Vec<Info>>()?.into_iter().next())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{Behavior, Info, Session};

    #[test]
    fn a_session_is_written_and_read_in_consuls_spelling() {
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

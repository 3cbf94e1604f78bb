//! Reads intentions: which services may call which.
//!
//! # Errors
//!
//! Every method may return any [`Error`] except `Configuration` and `NotFound`. [`Error::is_transient`] says whether to
//! retry.
//!
//! # Does not
//!
//! - Decide. Consul's `authorize`, which does, also allows callers of other trust domains, and takes an intention with
//!   permissions for a denial.
//!
//! # See
//!
//! - [Intentions](https://developer.hashicorp.com/consul/api-docs/connect/intentions)

use std::collections::BTreeMap;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::blocking::{Blocking, Indexed};
use crate::error::Error;
use crate::transport::{Request, Transport};
use crate::wire::or_default;

/// The endpoints under `/v1/connect/intentions`.
#[derive(Clone, Copy)]
pub struct Intentions<'a> {
    transport: &'a Transport,
}

/// Whether services may call another one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Intention {
    /// The service that calls; `*` for all.
    pub source_name: String,
    /// The namespace of the source; `default` without namespaces.
    #[serde(default, rename = "SourceNS")]
    pub source_namespace: String,
    /// The partition of the source; empty without partitions.
    #[serde(default)]
    pub source_partition: String,
    /// The peered cluster of the source; empty for the own one.
    #[serde(default)]
    pub source_peer: String,
    /// The sameness group of the source; empty for none.
    #[serde(default)]
    pub source_sameness_group: String,
    /// The service that is called; `*` for all.
    pub destination_name: String,
    /// The decision, if there are no permissions.
    #[serde(default)]
    pub action: Action,
    /// The decisions by request, since Consul 1.9: the first that matches counts.
    #[serde(default, deserialize_with = "or_default")]
    pub permissions: Vec<Permission>,
    /// Whether the request needs a token of a user, since Consul 1.16.
    #[serde(default, rename = "JWT", deserialize_with = "is_present")]
    pub needs_token: bool,
    /// The precedence: of several intentions for the same two services the greatest counts. An exact destination goes
    /// before an exact source, and both before `*`.
    #[serde(default)]
    pub precedence: i32,
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

/// The fields of an intention that are no condition, beside those of [`Intention`].
const NO_CONDITIONS: [&str; 16] = [
    "ID",
    "Description",
    "SourceType",
    "DestinationNS",
    "DestinationPartition",
    "DefaultAddr",
    "DefaultPort",
    "Meta",
    "CreatedAt",
    "UpdatedAt",
    "Hash",
    "CreateIndex",
    "ModifyIndex",
    "LegacyID",
    "LegacyMeta",
    "LegacyCreateTime",
];

/// A decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// The call is made.
    Allow,
    /// The call is refused.
    Deny,
    /// None here, or one that this crate does not know.
    #[default]
    #[serde(other)]
    None,
}

/// A decision of an intention by request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Permission {
    /// The decision.
    #[serde(default)]
    pub action: Action,
    /// The requests.
    #[serde(default, rename = "HTTP", deserialize_with = "or_default")]
    pub http: HttpPermission,
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

/// The requests that a permission is for: those that match all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HttpPermission {
    /// The path; empty for any.
    #[serde(default)]
    pub path_exact: String,
    /// The beginning of the path; empty for any.
    #[serde(default)]
    pub path_prefix: String,
    /// The HTTP methods; empty for all.
    #[serde(default, deserialize_with = "or_default")]
    pub methods: Vec<String>,
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

impl Intention {
    /// The names of further conditions, those that this crate does not know.
    pub fn other_conditions(&self) -> impl Iterator<Item = &str> {
        let others = self.other.iter().filter(|(name, _)| !NO_CONDITIONS.contains(&name.as_str()));
        others.filter(|(_, value)| !is_empty(value)).map(|(name, _)| name.as_str())
    }
}

impl Permission {
    /// The names of further conditions, such as `PathRegex`, `Header` and `JWT`, and of those that this crate does not
    /// know.
    pub fn other_conditions(&self) -> impl Iterator<Item = &str> {
        let conditions = self.http.other.iter().chain(&self.other);
        conditions.filter(|(_, value)| !is_empty(value)).map(|(name, _)| name.as_str())
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn is_present<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Value::deserialize(from).map(|value| !value.is_null())
}

impl<'a> Intentions<'a> {
    pub(crate) fn new(transport: &'a Transport) -> Self {
        Self { transport }
    }

    /// Waits for a change of any intention, and returns only the index. The intentions need not be those that this
    /// crate knows.
    pub async fn changed(self, blocking: impl Into<Option<Blocking>>) -> Result<Indexed<()>, Error> {
        let request = Request::get("/v1/connect/intentions").blocking(blocking.into());
        let found: Indexed<IgnoredAny> = self.transport.send_dc(request).await?.indexed()?;
        Ok(found.map(drop))
    }

    /// Returns all intentions. With ACLs, Consul silently omits those of services whose intentions the token may not
    /// read.
    pub async fn list(self, blocking: impl Into<Option<Blocking>>) -> Result<Indexed<Vec<Intention>>, Error> {
        self.transport.send_dc(Request::get("/v1/connect/intentions").blocking(blocking.into())).await?.indexed()
    }

    /// Returns the intentions for calls of each of these services, by descending precedence. `Permission` if the token
    /// may not read those of one. Consul 1.8 has no blocking query for it: wait with [`list`](Self::list).
    pub async fn of_destinations(self, names: &[&str]) -> Result<BTreeMap<String, Vec<Intention>>, Error> {
        let request = Request::get("/v1/connect/intentions/match").parameter("by", "destination");
        let request = names.iter().fold(request, |request, name| request.parameter("name", name));
        let response = self.transport.send_dc(request).await?;
        let request = response.request().to_owned();
        let found: BTreeMap<String, Option<Vec<Intention>>> = response.json()?;
        if let Some(missing) = names.iter().find(|name| !found.contains_key(**name)) {
            let source = serde_json::Error::custom(format!("it says nothing of `{missing}`"));
            return Err(Error::Undecodable { request, source });
        }
        Ok(found.into_iter().map(|(name, found)| (name, found.unwrap_or_default())).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Action, Intention};

    #[test]
    fn intention_of_old_and_new_versions_is_read() {
        // Consul 1.8.7.
        let old = json!({"ID": "3598b550", "Description": "", "SourceNS": "default", "SourceName": "artwork",
            "DestinationNS": "default", "DestinationName": "catalog", "SourceType": "consul", "Action": "allow",
            "DefaultAddr": "", "DefaultPort": 0, "Meta": {}, "Precedence": 9, "CreatedAt": "2026-11-30T10:26:24Z",
            "UpdatedAt": "2026-11-30T10:26:24Z", "Hash": "5qNo", "CreateIndex": 13, "ModifyIndex": 13});
        let old: Intention = serde_json::from_value(old).unwrap();
        assert_eq!((&*old.source_name, old.action, old.precedence), ("artwork", Action::Allow, 9));
        assert!(old.permissions.is_empty() && !old.needs_token && old.source_peer.is_empty());
        assert_eq!(old.other_conditions().count(), 0);

        // The shape since 1.9, with conditions of later versions.
        let new = json!({"SourceNS": "default", "SourceName": "*", "SourcePeer": "west", "DestinationName": "catalog",
        "JWT": {"Providers": [{"Name": "okta"}]}, "Until": "noon", "Precedence": 8, "Permissions": [
            {"Action": "deny", "HTTP": {"PathExact": "/a", "Methods": ["POST"], "Header": [], "PathRegex": ""}},
            {"Action": "allow", "HTTP": {"PathRegex": "/a.*", "Header": [{"Name": "a", "Present": true}]},
             "JWT": {"Providers": []}},
            {"Action": "log", "HTTP": null, "Moon": 1},
        ]});
        let new: Intention = serde_json::from_value(new).unwrap();
        assert_eq!((new.action, new.needs_token, &*new.source_peer), (Action::None, true, "west"));
        assert_eq!(new.other_conditions().collect::<Vec<_>>(), ["Until"]);
        let conditions = |at: usize| new.permissions[at].other_conditions().collect::<Vec<_>>();
        assert_eq!(new.permissions[0].http.methods, ["POST"]);
        assert_eq!((conditions(0).len(), conditions(1)), (0, vec!["Header", "PathRegex", "JWT"]));
        assert_eq!((new.permissions[2].action, conditions(2)), (Action::None, vec!["Moon"]));
    }
}

//! One look at the instances of a service, for a question to each of them.

use std::collections::BTreeMap;

use consul_api_client::health::{CheckStatus, Instance, Query};
use futures_util::future::join_all;
use http::uri::Authority;

use super::address::Address;
use super::agent::Agent;
use super::dns::{Resolver as _, SystemResolver};

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Host and port.
    pub authority: Authority,
    /// Whether it passes its checks; `None` if the source has no checks.
    pub is_passing: Option<bool>,
    /// The version of its build, if the source knows it.
    pub version: Option<String>,
    /// The digest of its program, if the source knows it.
    pub digest: Option<String>,
}

/// Whether an instance in Consul is a service, and no proxy or gateway of Consul Connect.
pub fn is_service(instance: &Instance) -> bool {
    instance.service.kind.is_empty() || instance.service.kind == "typical"
}

/// Whether an instance in Consul passes its checks. One with a warning does: it runs, and answers.
pub fn is_passing(instance: &Instance) -> bool {
    instance.status() != CheckStatus::Critical
}

/// The services that Consul has, without those of others than gRPC.
pub(super) async fn services(agent: &Agent) -> Result<Vec<String>, String> {
    let found = agent.client().catalog().services(None).await.map_err(|error| error.to_string())?;
    let grpc = found.value.into_iter().filter(|(_, tags)| tags.iter().any(|tag| tag == "grpc"));
    Ok(grpc.map(|(service, _)| service).collect())
}

/// All instances of a service in Consul.
pub(super) async fn in_consul(agent: &Agent, service: &str) -> Result<Vec<Seen>, String> {
    let query = Query::service(service);
    let found = agent.client().health().instances(&query, None).await.map_err(|error| error.to_string())?;
    Ok(seen(&found.value))
}

fn seen(instances: &[Instance]) -> Vec<Seen> {
    let seen = instances.iter().filter(|instance| is_service(instance)).filter_map(|instance| {
        let meta = |key: &str| instance.service.meta.get(key).filter(|value| !value.is_empty()).cloned();
        Some(Seen {
            authority: instance.authority().parse().ok().filter(|_| instance.service.port != 0)?,
            is_passing: Some(is_passing(instance)),
            version: meta("version"),
            digest: meta("digest"),
        })
    });
    seen.collect()
}

/// The instances at the configured addresses of a service.
pub(super) async fn at_addresses(
    addresses: &BTreeMap<String, Vec<Address>>,
    service: &str,
) -> Result<Vec<Seen>, String> {
    let found = addresses.get(service).into_iter().flatten().map(|address| async move {
        match address {
            Address::Ip(address) => Ok(vec![*address]),
            Address::Name { host, port } => SystemResolver
                .lookup(host, *port)
                .await
                .map_err(|error| format!("the host name `{host}` cannot be resolved: {error}")),
        }
    });
    let mut all = Vec::new();
    for found in join_all(found).await {
        all.extend(found?);
    }
    all.sort();
    all.dedup();
    let seen = all.into_iter().filter_map(|address| {
        // The authority of an address with a zone cannot be written in a URI.
        let authority = address.to_string().parse().ok()?;
        Some(Seen { authority, is_passing: None, version: None, digest: None })
    });
    Ok(seen.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn instance(kind: &str, status: &str) -> Instance {
        let service = json!({"ID": "a-1", "Service": "a", "Kind": kind, "Port": 1});
        let checks = json!([{"CheckID": "service:a-1", "Status": status}]);
        let instance = json!({"Node": {"Node": "here", "Address": "10.0.0.7"}, "Service": service, "Checks": checks});
        serde_json::from_value(instance).unwrap()
    }

    #[test]
    fn proxies_of_connect_are_no_services() {
        for (kind, is) in [("", true), ("connect-proxy", false), ("mesh-gateway", false), ("typical", true)] {
            let instance = instance(kind, "passing");
            assert_eq!((is_service(&instance), seen(&[instance]).len()), (is, usize::from(is)), "{kind}");
        }
    }

    #[test]
    fn instance_with_a_warning_passes() {
        for (status, passes) in [("passing", true), ("warning", true), ("critical", false)] {
            assert_eq!(seen(&[instance("", status)])[0].is_passing, Some(passes), "{status}");
        }
    }

    #[tokio::test]
    async fn look_at_addresses_finds_each_once() {
        let addresses = ["127.0.0.1:1", "localhost:1", "127.0.0.1:2"].map(|text| Address::parse(text).unwrap());
        let addresses = BTreeMap::from([("echo".to_owned(), addresses.to_vec())]);
        let seen = at_addresses(&addresses, "echo").await.unwrap();
        let ports: Vec<_> = seen.iter().filter(|seen| seen.authority.host() == "127.0.0.1").collect();
        assert_eq!(ports.len(), 2, "{seen:?}");
        assert_eq!(at_addresses(&addresses, "other").await, Ok(Vec::new()));
        let nowhere = BTreeMap::from([("echo".to_owned(), vec![Address::parse("nowhere.invalid:1").unwrap()])]);
        let why = at_addresses(&nowhere, "echo").await.unwrap_err();
        assert!(why.contains("`nowhere.invalid` cannot be resolved"), "{why}");
    }
}

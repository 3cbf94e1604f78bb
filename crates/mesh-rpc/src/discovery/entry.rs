//! The entry of a service in Consul: its id, its address, its tags and its health check.
//!
//! See: decisions 0011 and 0012.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use consul_api_client::health::CheckStatus;
use consul_api_client::{Check, Registration, host_port};
use mesh_runtime::executable;

use super::settings::Advertise;

/// The interval of the agent's health check. A killed process is critical after the interval and the timeout.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The timeout of the check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// The agent deregisters an entry that is critical for this long. Consul allows no less.
const DEREGISTER_AFTER: Duration = Duration::from_secs(60);

/// A service to register.
pub struct Registrant {
    /// The name of the service.
    pub service: &'static str,
    /// The full names of its gRPC services.
    pub contracts: Vec<&'static str>,
    /// Returns whether the service is ready now.
    pub ready: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The address of the health check, if it is not that of the service: an agent has no certificate for mutual TLS.
    pub check: Option<SocketAddr>,
}

/// A service's entry in Consul.
pub(super) struct Entry {
    pub(super) service: &'static str,
    pub(super) id: String,
    check: Check,
    registration: Registration,
}

impl Entry {
    pub(super) fn new(registrant: &Registrant, address: SocketAddr, advertise: Option<&Advertise>) -> Self {
        let &Registrant { service, ref contracts, .. } = registrant;
        let host = advertise.map_or_else(|| address.ip().to_string(), |advertise| advertise.host.clone());
        let host = host.trim_matches(['[', ']']).to_owned();
        let port = advertise.and_then(|advertise| advertise.port).unwrap_or(address.port());
        let id = format!("{service}-{host}-{port}");

        let target = match registrant.check {
            Some(check) if check.ip().is_unspecified() => host_port(&host, check.port()),
            Some(check) => check.to_string(),
            None => host_port(&host, port),
        };
        // One check covers all contracts of a service. Without a contract, the check asks for the health of the
        // process.
        let target = contracts.first().map_or(target.clone(), |contract| format!("{target}/{contract}"));
        let check = Check::grpc(target, CHECK_INTERVAL).id(format!("{id}:grpc")).name("grpc.health.v1.Health/Check");
        let check = check.timeout(CHECK_TIMEOUT).deregister_after(DEREGISTER_AFTER);

        let registration = Registration::new(service).id(&id).address(host).port(port).tag("grpc");
        let registration = registration.meta("version", executable::VERSION);
        let registration = versions(contracts).into_iter().fold(registration, Registration::tag);
        Self { service, id, check, registration }
    }

    /// Adds the digest of the executable, if it is known.
    pub(super) fn with_digest(mut self, digest: Option<&str>) -> Self {
        if let Some(digest) = digest {
            self.registration = self.registration.meta("digest", digest);
        }
        self
    }

    /// The registration, with a check that starts as `ready`.
    pub(super) fn registration(&self, ready: bool) -> Registration {
        let status = if ready { CheckStatus::Passing } else { CheckStatus::Critical };
        self.registration.clone().check(self.check.clone().initial(status))
    }
}

/// The versions in the package names of contracts: `v1` of `artwork.v1.ArtworkService`.
fn versions(contracts: &[&'static str]) -> Vec<&'static str> {
    let mut versions: Vec<_> = contracts.iter().filter_map(|contract| contract.rsplit('.').nth(1)).collect();
    versions.sort_unstable();
    versions.dedup();
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(contracts: &[&'static str], address: &str, advertise: Option<Advertise>) -> (String, String) {
        let registrant =
            Registrant { service: "artwork", contracts: contracts.to_vec(), ready: Arc::new(|| true), check: None };
        let entry = Entry::new(&registrant, address.parse().unwrap(), advertise.as_ref());
        let entry = entry.with_digest(Some("abc"));
        let json = serde_json::to_string(&entry.registration(true)).unwrap();
        (entry.id, json)
    }

    #[test]
    fn entry_has_the_address_in_its_id_and_the_contract_in_its_check() {
        let (id, json) = entry(&["artwork.v1.ArtworkService", "artwork.v2.ArtworkService"], "127.0.0.1:50052", None);
        assert_eq!(id, "artwork-127.0.0.1-50052");
        assert!(json.contains(r#""GRPC":"127.0.0.1:50052/artwork.v1.ArtworkService""#), "{json}");
        assert!(json.contains(r#""Tags":["grpc","v1","v2"]"#), "{json}");
        let meta = format!(r#""Meta":{{"digest":"abc","version":"{}"}}"#, executable::VERSION);
        assert!(json.contains(&meta), "{json}");
    }

    #[test]
    fn entry_has_the_advertised_address() {
        let advertise = |host: &str, port| Some(Advertise { host: host.to_owned(), port });
        let (id, json) = entry(&[], "0.0.0.0:50052", advertise("10.0.0.7", None));
        assert_eq!(id, "artwork-10.0.0.7-50052");
        assert!(json.contains(r#""GRPC":"10.0.0.7:50052""#), "{json}");
        let (_, json) = entry(&[], "[::]:50052", advertise("[fd00::1]", Some(443)));
        assert!(json.contains(r#""Address":"fd00::1","Port":443"#), "{json}");
        assert!(json.contains(r#""GRPC":"[fd00::1]:443""#), "{json}");
    }
}

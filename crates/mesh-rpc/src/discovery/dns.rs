//! Keeps the addresses of host names up to date.
//!
//! A name is looked up every 5 s, and within a second when a connection to the peer fails. All of its addresses are
//! instances, as those of a headless Kubernetes service are.
//!
//! Guarantees:
//! - A failed lookup and an empty one keep the last addresses. An address that is gone is ejected at its first failed
//!   connection.
//! - A slow name delays no other name, and has one lookup in progress.
//! - Connections that keep failing cost at most one lookup of each name a second.
//!
//! See: decision 0028.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{self, BoxFuture};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::address::Address;
use crate::client::{Endpoints, Instance};

/// The time between the begins of two lookups of a name, unless a lookup takes longer.
const INTERVAL: Duration = Duration::from_secs(5);
/// The least time between the begins of two lookups of a name.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// The time after which a lookup counts as failed, although it goes on. Calls wait for a first lookup as long.
const LOOKUP_LIMIT: Duration = Duration::from_secs(3);

/// Looks up the addresses of a host. A parameter, so that tests need no name server.
pub(super) trait Resolver: Send + Sync + 'static {
    fn lookup(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
}

/// The resolver of the operating system: /etc/hosts, /etc/resolv.conf and whatever else it is configured with.
pub(super) struct SystemResolver;

impl Resolver for SystemResolver {
    fn lookup(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let host = host.to_owned();
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// Keeps `endpoints` set to the instances at `addresses`. Returns at once if none of them is a name, otherwise never.
pub(super) async fn follow(
    resolver: impl Resolver,
    service: &'static str,
    addresses: Vec<Address>,
    endpoints: Endpoints,
) {
    let (mut fixed, mut names) = (BTreeSet::new(), Vec::new());
    for address in addresses {
        match address {
            Address::Ip(address) => _ = fixed.insert(address),
            Address::Name { host, port } => names.push((host, port)),
        }
    }
    let found = Mutex::new(names.iter().map(|_| Found::Nothing).collect());
    let peer = Peer { service, fixed, names, found, endpoints };
    peer.publish();
    future::join_all((0..peer.names.len()).map(|index| peer.keep(index, &resolver))).await;
}

/// The addresses of a service.
struct Peer {
    service: &'static str,
    fixed: BTreeSet<SocketAddr>,
    names: Vec<(String, u16)>,
    /// The state of each name.
    found: Mutex<Vec<Found>>,
    endpoints: Endpoints,
}

/// The state of a name.
#[derive(Clone, PartialEq)]
enum Found {
    /// The first lookup has neither answered nor failed.
    Nothing,
    /// No lookup has found an address.
    Failed,
    /// The addresses of the last lookup that found any.
    Addresses(BTreeSet<SocketAddr>),
}

impl Peer {
    /// Looks up a name again and again.
    async fn keep(&self, index: usize, resolver: &impl Resolver) {
        let (host, port) = &self.names[index];
        let mut unreachable = self.endpoints.unreachable();
        let mut failing = false;
        loop {
            let start = Instant::now();
            unreachable.mark_unchanged();
            let mut lookup = pin!(resolver.lookup(host, *port));
            let found = match timeout(LOOKUP_LIMIT, &mut lookup).await {
                Ok(found) => found,
                Err(_) => {
                    self.failed(index, &mut failing, &format!("no answer after {LOOKUP_LIMIT:?}"));
                    lookup.await
                }
            };
            match found {
                Ok(found) if found.is_empty() => self.failed(index, &mut failing, "it has no address"),
                Ok(found) => {
                    failing = false;
                    self.answered(index, found.into_iter().collect());
                }
                Err(error) => self.failed(index, &mut failing, &error.to_string()),
            }
            sleep_until(start + MIN_INTERVAL).await;
            tokio::select! {
                () = sleep(INTERVAL - MIN_INTERVAL) => {}
                _ = unreachable.changed() => {}
            }
        }
    }

    fn answered(&self, index: usize, addresses: BTreeSet<SocketAddr>) {
        let now = Found::Addresses(addresses);
        if self.found()[index] != now {
            self.found()[index] = now.clone();
            let Found::Addresses(addresses) = now else { return };
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            let host = &self.names[index].0;
            tracing::info!(service = self.service, host, instances = addresses.join(" "), "found by DNS");
            self.publish();
        }
    }

    fn failed(&self, index: usize, failing: &mut bool, error: &str) {
        let (service, host) = (self.service, &self.names[index].0);
        let known = matches!(self.found()[index], Found::Addresses(_));
        if !std::mem::replace(failing, true) {
            let kept = if known { "using its last addresses" } else { "it has no instance" };
            tracing::warn!(service, host, error, "a host name cannot be resolved: {kept}, and looking it up again");
        }
        if !known {
            self.found()[index] = Found::Failed;
            self.publish();
        }
    }

    /// Sets the endpoints to all addresses that are known. Without any, calls wait for the first lookup of each name.
    fn publish(&self) {
        let found = self.found();
        let mut all = self.fixed.clone();
        all.extend(
            found.iter().filter_map(|found| if let Found::Addresses(all) = found { Some(all) } else { None }).flatten(),
        );
        // The authority of an address with a zone cannot be written in a URI.
        let instance =
            |address: &SocketAddr| Some(Instance { authority: address.to_string().parse().ok()?, weight: 1 });
        let instances: Vec<_> = all.iter().filter_map(instance).collect();
        if !instances.is_empty() {
            self.endpoints.set(&instances);
        } else if !found.contains(&Found::Nothing) {
            let hosts: Vec<_> = self.names.iter().map(|(host, _)| format!("`{host}`")).collect();
            self.endpoints.set_empty(format!("the host name {} cannot be resolved", hosts.join(", ")));
        }
    }

    fn found(&self) -> MutexGuard<'_, Vec<Found>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::telemetry::Metrics;

    /// The answers of a name server, and how often each host was looked up.
    #[derive(Clone, Default)]
    struct Fake(Arc<Mutex<BTreeMap<String, Host>>>);

    struct Host {
        answer: Answer,
        lookups: u32,
    }

    #[derive(Clone)]
    enum Answer {
        Addresses(&'static [&'static str]),
        Error(&'static str),
        Never,
    }

    impl Fake {
        fn set(&self, host: &str, answer: Answer) {
            let mut hosts = self.0.lock().unwrap();
            let lookups = hosts.get(host).map_or(0, |host| host.lookups);
            hosts.insert(host.to_owned(), Host { answer, lookups });
        }

        fn lookups(&self, host: &str) -> u32 {
            self.0.lock().unwrap()[host].lookups
        }
    }

    impl Resolver for Fake {
        fn lookup(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
            let mut hosts = self.0.lock().unwrap();
            let host = hosts.get_mut(host).expect("a host of the test");
            host.lookups += 1;
            match host.answer.clone() {
                Answer::Addresses(ips) => {
                    let found = ips.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect();
                    Box::pin(std::future::ready(Ok(found)))
                }
                Answer::Error(words) => Box::pin(std::future::ready(Err(io::Error::other(words)))),
                Answer::Never => Box::pin(std::future::pending()),
            }
        }
    }

    /// Follows these addresses. Virtual time has passed until the first lookups are done.
    async fn following(fake: &Fake, addresses: &str) -> Endpoints {
        let endpoints = Endpoints::unknown(crate::client::connections::Dial::default(), Metrics::new().peer("echo"));
        let addresses = addresses.split(' ').map(|address| Address::parse(address).unwrap()).collect();
        tokio::spawn(follow(fake.clone(), "echo", addresses, endpoints.clone()));
        sleep(Duration::from_millis(1)).await;
        endpoints
    }

    #[tokio::test(start_paused = true)]
    async fn names_become_all_of_their_addresses() {
        let fake = Fake::default();
        fake.set("a", Answer::Addresses(&["10.0.0.2", "10.0.0.1", "::1"]));
        fake.set("b", Answer::Addresses(&["10.0.0.2"]));
        let endpoints = following(&fake, "a:1 b:1 b:2 10.0.0.9:9").await;
        let expected = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.2:2", "10.0.0.9:9", "[::1]:1"];
        assert_eq!(endpoints.authorities(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn name_is_looked_up_again() {
        let fake = Fake::default();
        fake.set("a", Answer::Addresses(&["10.0.0.1"]));
        let endpoints = following(&fake, "a:1").await;
        fake.set("a", Answer::Addresses(&["10.0.0.2", "10.0.0.3"]));
        sleep(INTERVAL - Duration::from_millis(10)).await;
        assert_eq!(endpoints.authorities(), ["10.0.0.1:1"]);
        sleep(Duration::from_millis(20)).await;
        assert_eq!(endpoints.authorities(), ["10.0.0.2:1", "10.0.0.3:1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn failed_connection_causes_at_most_one_lookup_a_second() {
        let fake = Fake::default();
        fake.set("a", Answer::Addresses(&["10.0.0.1"]));
        let endpoints = following(&fake, "a:1").await;
        sleep(2 * MIN_INTERVAL).await;
        fake.set("a", Answer::Addresses(&["10.0.0.2"]));
        endpoints.pick(&[]).await.unwrap().report_unreachable();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(endpoints.authorities(), ["10.0.0.2:1"]);
        let before = fake.lookups("a");
        for _ in 0..400 {
            endpoints.pick(&[]).await.unwrap().report_unreachable();
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(fake.lookups("a") - before, 4, "in four seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn failed_lookup_keeps_the_last_addresses() {
        let fake = Fake::default();
        for failure in [Answer::Error("Name or service not known"), Answer::Addresses(&[]), Answer::Never] {
            fake.set("a", Answer::Addresses(&["10.0.0.1"]));
            let endpoints = following(&fake, "a:1").await;
            fake.set("a", failure);
            sleep(INTERVAL * 10).await;
            assert_eq!(endpoints.authorities(), ["10.0.0.1:1"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn name_without_an_address_is_named_and_found_later() {
        let fake = Fake::default();
        fake.set("a.invalid", Answer::Error("Name or service not known"));
        fake.set("slow", Answer::Never);
        let endpoints = following(&fake, "a.invalid:1 slow:1").await;
        assert_eq!(endpoints.why_empty(), None, "the slow name may have an address");
        sleep(LOOKUP_LIMIT).await;
        let why = endpoints.why_empty().unwrap();
        assert!(why.contains("`a.invalid`, `slow` cannot be resolved"), "{why}");
        fake.set("a.invalid", Answer::Addresses(&["10.0.0.1"]));
        sleep(INTERVAL).await;
        assert_eq!(endpoints.authorities(), ["10.0.0.1:1"]);
        assert_eq!(fake.lookups("slow"), 1, "it has one lookup in progress");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_name_delays_no_other_address() {
        let fake = Fake::default();
        fake.set("slow", Answer::Never);
        fake.set("a", Answer::Addresses(&["10.0.0.1"]));
        assert_eq!(following(&fake, "slow:1 a:1").await.authorities(), ["10.0.0.1:1"]);
        assert_eq!(following(&fake, "slow:1 10.0.0.9:9").await.authorities(), ["10.0.0.9:9"]);
    }

    #[tokio::test]
    async fn system_resolver_knows_localhost_and_no_invalid_name() {
        let found = SystemResolver.lookup("localhost", 1).await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()) && !found.is_empty(), "{found:?}");
        assert!(SystemResolver.lookup("nowhere.invalid", 1).await.is_err());
    }
}

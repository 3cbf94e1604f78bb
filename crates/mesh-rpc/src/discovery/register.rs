//! Being found: registering with the agent, staying registered, and going before the process does.
//!
//! An instance is known by its service and the address it advertises, not by a number drawn at its start: two processes
//! that can be told apart have two, and one that starts where another was killed takes over its entry. With a fresh id
//! the dead one's would stay beside it, and stay healthy, because its check finds somebody at home.
//!
//! Its health is what it says itself to begin with, and what the agent finds from then on. Consul's default would be
//! that everything is ill until the agent has looked, which makes a second of outage of every new instance, and of every
//! restart of an agent that forgets. It is not believed twice: what an agent has let go of, perhaps because it could
//! never reach it, begins as critical.
//!
//! An agent may forget (one without a disk forgets at every restart), and nobody tells. So after registering, a
//! question waits for as long as the entry is what it was, and ends when it is not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use consul_api_client::health::{CheckStatus, Query};
use consul_api_client::{Check, Error, Registration, host_port};
use mesh_runtime::{Backoff, Tasks};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::agent::{Agent, Attempts, WAIT};
use super::settings::Advertise;

/// How often the agent asks whether a service is well, and how long that may take: a process that was killed is
/// critical after both. What stays critical is forgotten after a minute, which is the least that Consul allows.
const EVERY: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(1);
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// What a drain gives an agent that does not answer.
const DEREGISTER_WITHIN: Duration = Duration::from_secs(1);
/// What it gives callers to learn of it, who would be refused otherwise.
const LEARNED_WITHIN: Duration = Duration::from_millis(100);
/// Before an entry is registered again that another client changes each time.
const CONTESTED: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10)).jitter(0.5..1.0);
/// How long what is registered may take to be seen.
const VISIBLE_WITHIN: Duration = Duration::from_secs(5);

/// What there is to say of a service.
pub struct Registrant {
    /// The service's name.
    pub service: &'static str,
    /// The full names of its contracts.
    pub contracts: Vec<&'static str>,
    /// Whether it is ready now.
    pub ready: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// Services that can be found until they are withdrawn. Dropping it only stops to look after them.
pub struct Registered {
    services: usize,
    leaving: CancellationToken,
    keepers: Tasks,
    _cut_on_drop: DropGuard,
}

impl Registered {
    /// Nothing is registered, and nothing will be deregistered.
    pub(super) fn nowhere() -> Self {
        Self::new(0)
    }

    fn new(services: usize) -> Self {
        let keepers = Tasks::default();
        Self { services, leaving: CancellationToken::new(), _cut_on_drop: keepers.cut_on_drop(), keepers }
    }

    /// Takes all of them out, and returns when nobody looks for them here any more; after a second in any case.
    pub async fn deregister(self) {
        if self.services == 0 {
            return;
        }
        self.leaving.cancel();
        match timeout(DEREGISTER_WITHIN, self.keepers.finish()).await {
            Ok(()) => sleep(LEARNED_WITHIN).await,
            Err(_) => {
                tracing::warn!("Consul does not answer: its health check will find out that this process has ended")
            }
        }
    }
}

/// Registers services in the background, and keeps them registered.
pub(super) fn register(
    agent: &Agent,
    services: Vec<Registrant>,
    address: SocketAddr,
    advertise: Option<&Advertise>,
) -> Registered {
    let registered = Registered::new(services.len());
    for registrant in services {
        let entry = Entry::new(&registrant, address, advertise);
        registered.keepers.run(keep(agent.clone(), entry, registrant.ready, registered.leaving.clone()));
    }
    registered
}

/// What Consul is told.
struct Entry {
    service: &'static str,
    id: String,
    check: Check,
    registration: Registration,
}

impl Entry {
    fn new(registrant: &Registrant, address: SocketAddr, advertise: Option<&Advertise>) -> Self {
        let &Registrant { service, ref contracts, .. } = registrant;
        let host = advertise.map_or_else(|| address.ip().to_string(), |advertise| advertise.host.clone());
        let host = host.trim_matches(['[', ']']).to_owned();
        let port = advertise.and_then(|advertise| advertise.port).unwrap_or(address.port());
        let id = format!("{service}-{host}-{port}");

        let target = host_port(&host, port);
        // All contracts of a service are as well as the service is. One that has none is as well as its process.
        let target = contracts.first().map_or(target.clone(), |contract| format!("{target}/{contract}"));
        let check = Check::grpc(target, EVERY).id(format!("{id}:grpc")).name("grpc.health.v1.Health/Check");
        let check = check.timeout(LIMIT).deregister_after(FORGET_AFTER);

        let registration = Registration::new(service).id(&id).address(host).port(port).tag("grpc");
        let registration = versions(contracts).into_iter().fold(registration, Registration::tag);
        Self { service, id, check, registration }
    }

    fn registration(&self, ready: bool) -> Registration {
        let status = if ready { CheckStatus::Passing } else { CheckStatus::Critical };
        self.registration.clone().check(self.check.clone().initial(status))
    }
}

/// The versions of contracts, as their packages name them: `v1` of `artwork.v1.ArtworkService`.
fn versions(contracts: &[&'static str]) -> Vec<&'static str> {
    let mut versions: Vec<_> = contracts.iter().filter_map(|contract| contract.rsplit('.').nth(1)).collect();
    versions.sort_unstable();
    versions.dedup();
    versions
}

/// Keeps an entry in Consul until it is time to leave, and takes it out then.
async fn keep(agent: Agent, entry: Entry, is_ready: Arc<dyn Fn() -> bool + Send + Sync>, leaving: CancellationToken) {
    let mut attempts = agent.attempts(format!("register `{}`", entry.id));
    let (mut registered, mut quarrels, mut trusted) = (false, 0, true);
    while !leaving.is_cancelled() {
        let ready = trusted && is_ready();
        // Given up late when it is time to leave: it might still arrive, behind our leaving.
        let put = tokio::select! {
            put = put(&agent, &entry, ready) => put,
            () = async { leaving.cancelled().await; sleep(DEREGISTER_WITHIN / 2).await } => break,
        };
        match put {
            Ok(version) => {
                attempts.succeeded();
                tracing::info!(id = entry.id, "registered in Consul");
                let look = !std::mem::replace(&mut registered, true);
                let begun = Instant::now();
                let changed = changed(&agent, &entry, version, &mut attempts, look);
                let Some(why) = leaving.run_until_cancelled(changed).await else { break };
                // An agent that has lost its memory was away, too. One that was there has a reason to have let go.
                trusted = why == Change::AgentAway;
                quarrels = if trusted || begun.elapsed() > WAIT { 0 } else { quarrels + 1 };
                leaving.run_until_cancelled(sleep(CONTESTED.pause(quarrels))).await;
            }
            Err(error) => drop(leaving.run_until_cancelled(attempts.failed(&error)).await),
        }
    }
    // Also if it never worked: an attempt that was given up may have arrived.
    match agent.client().agent().deregister(&entry.id).await {
        _ if !registered => {}
        Ok(()) => tracing::info!(id = entry.id, "deregistered from Consul"),
        Err(error) => tracing::warn!(id = entry.id, %error, "not deregistered; its health check will tell Consul"),
    }
}

/// Registers, and gives the version of what the agent has then.
async fn put(agent: &Agent, entry: &Entry, ready: bool) -> Result<String, Error> {
    agent.client().agent().register(&entry.registration(ready)).await?;
    let kept = agent.client().agent().service(&entry.id).await?;
    // Forgotten already: no version is the empty one.
    Ok(kept.map(|service| service.content_hash).unwrap_or_default())
}

/// Why an entry is not what it was any more.
#[derive(PartialEq)]
enum Change {
    /// Nobody knows: the agent went away, perhaps with its memory.
    AgentAway,
    /// The agent has something else, or nothing: what was critical for too long, or what somebody took out.
    AgentSays,
}

/// Waits until the agent has something else than `version`, or nothing; looks, meanwhile, whether others can see it.
async fn changed(agent: &Agent, entry: &Entry, version: String, attempts: &mut Attempts, look: bool) -> Change {
    let looking = async {
        if look {
            warn_if_invisible(agent, entry).await;
        }
        std::future::pending().await
    };
    let waiting = async {
        loop {
            match agent.client().agent().service_changed(&entry.id, &version, WAIT).await {
                Ok(Some(service)) if service.content_hash == version => attempts.succeeded(),
                Ok(_) => {
                    tracing::warn!(
                        id = entry.id,
                        "Consul has let go of the registration, or has another; it is made again"
                    );
                    return Change::AgentSays;
                }
                // Whether it still knows is found out by registering: that changes nothing if it does.
                Err(error) => {
                    attempts.failed(&error).await;
                    return Change::AgentAway;
                }
            }
        }
    };
    tokio::select! {
        change = waiting => change,
        () = looking => Change::AgentSays,
    }
}

/// A token that may register and not read finds nobody, and Consul gives no hint: its answers are empty.
async fn warn_if_invisible(agent: &Agent, entry: &Entry) {
    for _ in 0..VISIBLE_WITHIN.as_secs() {
        sleep(Duration::from_secs(1)).await;
        match agent.client().health().instances(&Query::service(entry.service), None).await {
            Ok(found) if found.value.iter().any(|instance| instance.service.id == entry.id) => return,
            Ok(_) => {}
            Err(_) => return,
        }
    }
    let token = agent.token_origin();
    tracing::warn!(
        id = entry.id,
        token,
        "this service cannot see itself in Consul, and probably no other: its token needs read rights for services \
         and nodes"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(contracts: &[&'static str], address: &str, advertise: Option<Advertise>) -> (String, String) {
        let registrant = Registrant { service: "artwork", contracts: contracts.to_vec(), ready: Arc::new(|| true) };
        let entry = Entry::new(&registrant, address.parse().unwrap(), advertise.as_ref());
        let said = serde_json::to_string(&entry.registration(true)).unwrap();
        (entry.id, said)
    }

    #[test]
    fn an_instance_is_known_by_its_address_and_checked_by_its_contract() {
        let (id, said) = entry(&["artwork.v1.ArtworkService", "artwork.v2.ArtworkService"], "127.0.0.1:50052", None);
        assert_eq!(id, "artwork-127.0.0.1-50052");
        assert!(said.contains(r#""GRPC":"127.0.0.1:50052/artwork.v1.ArtworkService""#), "{said}");
        assert!(said.contains(r#""Tags":["grpc","v1","v2"]"#), "{said}");
    }

    #[test]
    fn others_are_told_what_is_advertised() {
        let advertise = |host: &str, port| Some(Advertise { host: host.to_owned(), port });
        let (id, said) = entry(&[], "0.0.0.0:50052", advertise("10.0.0.7", None));
        assert_eq!(id, "artwork-10.0.0.7-50052");
        assert!(said.contains(r#""GRPC":"10.0.0.7:50052""#), "{said}");
        let (_, said) = entry(&[], "[::]:50052", advertise("[fd00::1]", Some(443)));
        assert!(said.contains(r#""Address":"fd00::1","Port":443"#), "{said}");
        assert!(said.contains(r#""GRPC":"[fd00::1]:443""#), "{said}");
    }
}

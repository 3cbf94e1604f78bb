//! Registers services with the agent, keeps them registered, and deregisters them at a drain.
//!
//! Guarantees:
//! - An entry that the agent lost is registered again. A blocking query reports the loss at once.
//! - No registration follows a deregistration, even with a request in flight. None comes before the process is open.
//! - A drain waits at most one second for the agent.
//!
//! See: decisions 0011 and 0012.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use consul_api_client::Error;
use consul_api_client::health::Query;
use mesh_runtime::{Backoff, Tasks, executable};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::agent::{Agent, Attempts, QUERY_WAIT};
use super::entry::{Entry, Registrant};
use super::settings::Advertise;

/// The limit for deregistering during a drain.
const DEREGISTER_TIMEOUT: Duration = Duration::from_secs(1);
/// The time for callers to see the deregistration before connections are refused.
const PROPAGATION_PAUSE: Duration = Duration::from_millis(100);
/// The pause before registering an entry again that another client keeps changing.
const CONFLICT_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10)).jitter(0.5..1.0);
/// The limit for a registration to become visible.
const VISIBILITY_LIMIT: Duration = Duration::from_secs(5);

/// Registered services. Dropping it stops the tasks without deregistering.
pub struct Registered {
    services: usize,
    leaving: CancellationToken,
    tasks: Tasks,
    _cut_on_drop: DropGuard,
}

impl Registered {
    /// No services.
    pub(super) fn none() -> Self {
        Self::new(0)
    }

    fn new(services: usize) -> Self {
        let tasks = Tasks::default();
        Self { services, leaving: CancellationToken::new(), _cut_on_drop: tasks.cut_on_drop(), tasks }
    }

    /// Deregisters all services, and waits until callers have seen it. Returns after little more than one second at
    /// most.
    pub async fn deregister(self) {
        if self.services == 0 {
            return;
        }
        self.leaving.cancel();
        match timeout(DEREGISTER_TIMEOUT, self.tasks.finish()).await {
            Ok(()) => sleep(PROPAGATION_PAUSE).await,
            Err(_) => {
                tracing::warn!("Consul does not answer: its health check will report the end of this process")
            }
        }
    }
}

/// Registers services in the background, from when `open` is cancelled, and keeps them registered.
pub(super) fn register(
    agent: &Agent,
    services: Vec<Registrant>,
    address: SocketAddr,
    advertise: Option<&Advertise>,
    open: &CancellationToken,
) -> Registered {
    let registered = Registered::new(services.len());
    for registrant in services {
        let entry = Entry::new(&registrant, address, advertise);
        let (open, leaving) = (open.clone(), registered.leaving.clone());
        let kept = keep(agent.clone(), entry, registrant.ready, leaving.clone());
        registered.tasks.run(async move {
            if leaving.run_until_cancelled(open.cancelled()).await.is_some() {
                kept.await;
            }
        });
    }
    registered
}

/// Keeps an entry registered until `leaving` is cancelled, then deregisters it.
async fn keep(agent: Agent, entry: Entry, is_ready: Arc<dyn Fn() -> bool + Send + Sync>, leaving: CancellationToken) {
    let Some(digest) = leaving.run_until_cancelled(executable::digest()).await else { return };
    let entry = entry.with_digest(digest);
    let mut attempts = agent.attempts(format!("register `{}`", entry.id));
    let (mut registered, mut conflicts, mut trusted) = (false, 0, true);
    while !leaving.is_cancelled() {
        let ready = trusted && is_ready();
        // A request in flight gets half the limit to complete. Cancelled, it might arrive after the deregistration.
        let put = tokio::select! {
            put = put(&agent, &entry, ready) => put,
            () = async { leaving.cancelled().await; sleep(DEREGISTER_TIMEOUT / 2).await } => break,
        };
        match put {
            Ok(hash) => {
                attempts.succeeded();
                tracing::info!(id = entry.id, "registered in Consul");
                let check_visibility = !std::mem::replace(&mut registered, true);
                let start = Instant::now();
                let changed = changed(&agent, &entry, hash, &mut attempts, check_visibility);
                let Some(change) = leaving.run_until_cancelled(changed).await else { break };
                // An unavailable agent may have lost its state, so the service's own health is trusted. An available
                // agent has deregistered the entry for a reason.
                trusted = change == Change::AgentUnavailable;
                conflicts = if trusted || start.elapsed() > QUERY_WAIT { 0 } else { conflicts + 1 };
                leaving.run_until_cancelled(sleep(CONFLICT_BACKOFF.pause(conflicts))).await;
            }
            Err(error) => drop(leaving.run_until_cancelled(attempts.failed(&error)).await),
        }
    }
    // Also after failures only: a cancelled request may have arrived.
    match agent.client().agent().deregister(&entry.id).await {
        _ if !registered => {}
        Ok(()) => tracing::info!(id = entry.id, "deregistered from Consul"),
        Err(error) => tracing::warn!(id = entry.id, %error, "not deregistered: the health check will report it"),
    }
}

/// Registers the entry, and returns the content hash of the agent's copy.
async fn put(agent: &Agent, entry: &Entry, ready: bool) -> Result<String, Error> {
    agent.client().agent().register(&entry.registration(ready)).await?;
    let kept = agent.client().agent().service(&entry.id).await?;
    // The agent has lost the entry again. An empty hash matches no entry.
    Ok(kept.map(|service| service.content_hash).unwrap_or_default())
}

/// Why an entry must be registered again.
#[derive(PartialEq)]
enum Change {
    /// The agent was unavailable and may have lost its state.
    AgentUnavailable,
    /// The agent has another entry or none: critical for too long, or changed by another client.
    EntryChanged,
}

/// Waits until the agent's entry differs from `hash`. With `check_visibility`, also warns if the service cannot see
/// itself.
async fn changed(
    agent: &Agent,
    entry: &Entry,
    hash: String,
    attempts: &mut Attempts,
    check_visibility: bool,
) -> Change {
    let visibility = async {
        if check_visibility {
            warn_if_invisible(agent, entry).await;
        }
        std::future::pending().await
    };
    let waiting = async {
        loop {
            match agent.client().agent().service_changed(&entry.id, &hash, QUERY_WAIT).await {
                Ok(Some(service)) if service.content_hash == hash => attempts.succeeded(),
                Ok(_) => {
                    tracing::warn!(id = entry.id, "Consul has no registration, or another one: registering again");
                    return Change::EntryChanged;
                }
                // Registering again shows whether the agent still has the entry. An identical registration changes
                // nothing.
                Err(error) => {
                    attempts.failed(&error).await;
                    return Change::AgentUnavailable;
                }
            }
        }
    };
    tokio::select! {
        change = waiting => change,
        () = visibility => Change::EntryChanged,
    }
}

/// Without read rights, Consul returns empty answers and no error. This is the only hint for an operator.
async fn warn_if_invisible(agent: &Agent, entry: &Entry) {
    for _ in 0..VISIBILITY_LIMIT.as_secs() {
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
        "this service cannot see itself in Consul: its token needs read rights for services and nodes"
    );
}

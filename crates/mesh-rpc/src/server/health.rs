//! Health of the services: ready while their checks pass and the process does not drain.
//!
//! Three views show the same state: `grpc.health.v1.Health` by the full name of a contract, its empty name for the
//! process, and `/readyz` over HTTP.
//!
//! Guarantees: a drain is final. No check that was running meanwhile makes a service ready again.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Checks whether a service can work, within a time limit. The error is a short text for operators.
pub type Check = Box<dyn Fn(Duration) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// The interval between checks, and the limit for one check.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// The readiness of the services of a process. Cheap to clone.
#[derive(Clone)]
pub struct Health(Arc<HealthInner>);

struct HealthInner {
    services: Vec<Watched>,
    /// The service behind each contract; `None` for a contract of mesh, whose health is that of the process.
    contracts: BTreeMap<&'static str, Option<&'static str>>,
    state: watch::Sender<State>,
}

/// A service and its check.
pub struct Watched {
    /// The name of the service.
    pub name: &'static str,
    /// The full names of its gRPC services.
    pub contracts: Vec<&'static str>,
    /// Checks a dependency, such as the database. `None`: the service is always ready.
    pub check: Option<Check>,
}

/// The state that all views show.
struct State {
    /// The error of each service; `None` if it is ready.
    errors: BTreeMap<&'static str, Option<String>>,
    /// Set once, and never reset.
    draining: bool,
}

impl State {
    /// Whether a service is ready, or with `None` the process.
    fn is_ready(&self, service: Option<&str>) -> bool {
        !self.draining
            && match service {
                Some(service) => self.errors.get(service).is_some_and(Option::is_none),
                None => self.errors.values().all(Option::is_none),
            }
    }
}

impl Health {
    /// Starts with all services ready: a service is built only after its database has answered. `names` are the full
    /// names of all gRPC services of the process; those outside of `services` have the health of the process.
    pub fn new(services: Vec<Watched>, names: impl IntoIterator<Item = &'static str>) -> Self {
        let mut contracts: BTreeMap<_, _> = names.into_iter().map(|name| (name, None)).collect();
        for service in &services {
            contracts.extend(service.contracts.iter().map(|contract| (*contract, Some(service.name))));
        }
        let errors = services.iter().map(|service| (service.name, None)).collect();
        let state = watch::Sender::new(State { errors, draining: false });
        Self(Arc::new(HealthInner { services, contracts, state }))
    }

    /// Runs all checks periodically and reports changes. Never returns.
    pub async fn watch(self) {
        let mut ticks = tokio::time::interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for service in &self.0.services {
                let Some(check) = &service.check else { continue };
                let error = check(CHECK_TIMEOUT).await.err();
                self.record(service.name, error);
            }
        }
    }

    fn record(&self, service: &'static str, error: Option<String>) {
        self.0.state.send_if_modified(|state| {
            let before = state.errors.insert(service, error.clone()).flatten();
            if state.draining || before.is_some() == error.is_some() {
                return false;
            }
            match error {
                Some(problem) => tracing::warn!(service, problem, "not ready"),
                None => tracing::info!(service, "ready again"),
            }
            true
        });
    }

    /// Reports NOT_SERVING for all services from now on, so that balancers stop sending calls.
    pub fn drain(&self) {
        self.0.state.send_modify(|state| state.draining = true);
    }

    /// Whether a service is ready.
    pub fn is_ready(&self, service: &str) -> bool {
        self.0.state.borrow().is_ready(Some(service))
    }

    /// Whether all services are ready, and one line for each service.
    pub fn summary(&self) -> (bool, String) {
        let state = self.0.state.borrow();
        let line = |(name, error): (&&str, &Option<String>)| match error {
            _ if state.draining => format!("{name}: not ready: draining\n"),
            None => format!("{name}: ready\n"),
            Some(error) => format!("{name}: not ready: {error}\n"),
        };
        (state.is_ready(None), state.errors.iter().map(line).collect())
    }

    /// Whether the service of a contract is ready, or the process under the empty name. `None`: it is not served.
    pub(super) fn serves(&self, contract: &str) -> Option<bool> {
        let service = if contract.is_empty() { None } else { *self.0.contracts.get(contract)? };
        Some(self.0.state.borrow().is_ready(service))
    }

    /// The full names of the gRPC services of the process.
    pub(super) fn contracts(&self) -> impl Iterator<Item = &'static str> {
        self.0.contracts.keys().copied()
    }

    /// Resolves its `changed` each time that the state may have changed.
    pub(super) fn changes(&self) -> watch::Receiver<impl Sized + use<>> {
        self.0.state.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::sync::oneshot;
    use tokio::time::sleep;

    #[tokio::test(start_paused = true)]
    async fn health_of_a_check_that_races_the_drain_stays_not_serving() {
        // The service is away; a check that succeeds is running when the drain begins.
        let (answer, answered) = oneshot::channel::<()>();
        let answered = Mutex::new(Some(answered));
        let check: Check = Box::new(move |_| {
            let answered = answered.lock().unwrap().take();
            Box::pin(async move {
                match answered {
                    Some(answered) => answered.await.map_err(|_| "cancelled".to_owned()),
                    None => Ok(()),
                }
            })
        });
        let health =
            Health::new(vec![Watched { name: "film", contracts: vec!["film.v1.Film"], check: Some(check) }], []);
        health.record("film", Some("away".to_owned()));
        let watching = tokio::spawn(health.clone().watch());
        sleep(Duration::from_millis(1)).await;

        health.drain();
        let mut seen = health.0.state.subscribe();
        answer.send(()).unwrap();
        sleep(Duration::from_millis(1)).await;
        assert!(!health.is_ready("film"));
        assert_eq!(health.summary(), (false, "film: not ready: draining\n".to_owned()));
        for contract in ["film.v1.Film", ""] {
            assert_eq!(health.serves(contract), Some(false), "{contract}");
        }
        assert!(!seen.has_changed().unwrap(), "watchers see no change after the drain");
        assert_eq!(seen.borrow_and_update().errors["film"], None, "the check was recorded");
        watching.abort();
    }
}

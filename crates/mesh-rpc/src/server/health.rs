//! Health of the services: ready while their checks pass, from the end of the start to the beginning of the drain. A
//! process that is held has started, and is not ready for a reason that no check finds.
//!
//! Three views show the same state: `grpc.health.v1.Health` by the full name of a contract, its empty name for the
//! process, and `/readyz` over HTTP.
//!
//! Guarantees:
//! - No service is ready before all are built.
//! - A drain is final. No check that was running meanwhile makes a service ready again.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;

use crate::telemetry::Metrics;

/// Checks whether a service can work, within a time limit.
pub type Check = Box<dyn Fn(Duration) -> Pin<Box<dyn Future<Output = Readiness> + Send>> + Send + Sync>;

/// What a check has found, with a short text for operators. Worse is greater.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Readiness {
    /// The service works.
    Ready,
    /// Part of the service works, and no other instance would do better. It stays in discovery.
    Degraded(String),
    /// The service does not work here.
    NotReady(String),
}

impl Readiness {
    fn is_ready(&self) -> bool {
        !matches!(self, Self::NotReady(_))
    }
}

/// The interval between checks, and the limit for one check.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// The readiness of the services of a process. Cheap to clone.
#[derive(Clone)]
pub struct Health(Arc<HealthInner>);

struct HealthInner {
    /// The service behind each contract; `None` for a contract of mesh, whose health is that of the process.
    contracts: BTreeMap<&'static str, Option<&'static str>>,
    state: watch::Sender<State>,
}

/// The state that all views show.
struct State {
    /// The result of the last check of each service.
    checked: BTreeMap<&'static str, Readiness>,
    phase: Phase,
    /// Why the process is held, a sentence each.
    held: Vec<String>,
}

/// The life of a process, in this order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Held,
    Serving,
    Draining,
}

impl State {
    /// Whether a service is ready, or with `None` the process.
    fn is_ready(&self, service: Option<&str>) -> bool {
        self.phase == Phase::Serving
            && match service {
                Some(service) => self.checked.get(service).is_some_and(Readiness::is_ready),
                None => self.checked.values().all(Readiness::is_ready),
            }
    }
}

impl Health {
    /// The health of a process that starts. `services` are the names of its services, with the full names of their gRPC
    /// services. `others` are the full names of its other gRPC services, which have the health of the process.
    pub fn starting(
        services: impl IntoIterator<Item = (&'static str, Vec<&'static str>)>,
        others: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        let mut contracts: BTreeMap<_, _> = others.into_iter().map(|name| (name, None)).collect();
        let mut checked = BTreeMap::new();
        for (service, names) in services {
            contracts.extend(names.into_iter().map(|name| (name, Some(service))));
            // Once the process serves, each database has answered.
            checked.insert(service, Readiness::Ready);
        }
        let state = watch::Sender::new(State { checked, phase: Phase::Starting, held: Vec::new() });
        Self(Arc::new(HealthInner { contracts, state }))
    }

    /// Reports NOT_SERVING for all services until [`started`](Self::started): all are built, and must not be called
    /// yet. `why` are sentences for operators.
    pub fn hold(&self, why: Vec<String>) {
        self.0.state.send_if_modified(|state| {
            if matches!(state.phase, Phase::Starting | Phase::Held) {
                (state.phase, state.held) = (Phase::Held, why);
            }
            false
        });
    }

    /// Reports the results of the checks from now on: all services are built and served.
    pub fn started(&self) {
        self.0.state.send_if_modified(|state| {
            let starting = matches!(state.phase, Phase::Starting | Phase::Held);
            if starting {
                state.phase = Phase::Serving;
            }
            starting
        });
    }

    /// Runs the checks of services periodically and reports changes. Of several checks of a service the worst result
    /// counts. A service without a check stays ready. Never returns.
    pub async fn watch(self, checks: Vec<(&'static str, Check)>) {
        let mut ticks = tokio::time::interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look(&checks).await;
        }
    }

    /// Runs these checks once. Before [`started`](Self::started), so that a service that fails its first check is never
    /// reported ready.
    pub async fn look(&self, checks: &[(&'static str, Check)]) {
        let mut worst = BTreeMap::new();
        let found = checks.iter().map(|(service, check)| async { (*service, check(CHECK_TIMEOUT).await) });
        for (service, found) in join_all(found).await {
            match worst.get(service) {
                Some(before) if found <= *before => {}
                _ => _ = worst.insert(service, found),
            }
        }
        for (service, found) in worst {
            self.record(service, found);
        }
    }

    /// Keeps the result of a check. The log has one line for each change.
    fn record(&self, service: &'static str, found: Readiness) {
        self.0.state.send_if_modified(|state| {
            let before = state.checked.insert(service, found.clone());
            if state.phase == Phase::Draining || before.as_ref().map(discriminant) == Some(discriminant(&found)) {
                return false;
            }
            match &found {
                Readiness::NotReady(problem) => tracing::warn!(service, problem, "not ready"),
                Readiness::Degraded(problem) => tracing::warn!(service, problem, "degraded"),
                Readiness::Ready => tracing::info!(service, "ready again"),
            }
            before.is_some_and(|before| before.is_ready() != found.is_ready())
        });
    }

    /// Reports NOT_SERVING for all services from now on, so that balancers stop sending calls.
    pub fn drain(&self) {
        self.0.state.send_modify(|state| state.phase = Phase::Draining);
    }

    /// Whether a service is ready.
    pub fn is_ready(&self, service: &str) -> bool {
        self.0.state.borrow().is_ready(Some(service))
    }

    /// Whether all services are ready, and one line for each service; one line for a process that starts or drains, and
    /// one for each reason of one that is held.
    pub fn summary(&self) -> (bool, String) {
        let state = self.0.state.borrow();
        match state.phase {
            Phase::Starting => return (false, "starting: the process opens and migrates its databases\n".to_owned()),
            Phase::Held => return (false, state.held.iter().map(|why| format!("held: {why}\n")).collect()),
            Phase::Draining => return (false, "draining: the process finishes its calls and ends\n".to_owned()),
            Phase::Serving => {}
        }
        let line = |(name, found): (&&str, &Readiness)| match found {
            Readiness::Ready => format!("{name}: ready\n"),
            Readiness::Degraded(problem) => format!("degraded: {name}: {problem}\n"),
            Readiness::NotReady(problem) => format!("{name}: not ready: {problem}\n"),
        };
        (state.is_ready(None), state.checked.iter().map(line).collect())
    }

    /// Each service, whether it is ready, and why it is not or what of it does not work.
    pub fn services(&self) -> Vec<(&'static str, bool, String)> {
        let state = self.0.state.borrow();
        let why = |found: &Readiness| match (state.phase, found) {
            (Phase::Starting, _) => "the process starts".to_owned(),
            (Phase::Held, _) => state.held.join("; "),
            (Phase::Draining, _) => "the process drains".to_owned(),
            (Phase::Serving, Readiness::Ready) => String::new(),
            (Phase::Serving, Readiness::Degraded(problem) | Readiness::NotReady(problem)) => problem.clone(),
        };
        state.checked.iter().map(|(name, found)| (*name, state.is_ready(Some(name)), why(found))).collect()
    }

    /// Whether the process drains.
    pub fn is_draining(&self) -> bool {
        self.0.state.borrow().phase == Phase::Draining
    }

    /// Sets the metrics of the services.
    pub(super) fn measure(&self, metrics: &Metrics) {
        let state = self.0.state.borrow();
        for (service, found) in &state.checked {
            metrics.service(service, state.is_ready(Some(service)), matches!(found, Readiness::Degraded(_)));
        }
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

    fn starting() -> Health {
        Health::starting([("film", vec!["film.v1.Film"])], ["own.v1.Own"])
    }

    fn serving() -> Health {
        let health = starting();
        health.started();
        health
    }

    #[test]
    fn health_of_a_process_that_starts_is_not_serving() {
        let health = starting();
        let seen = health.0.state.subscribe();
        let serves = || ["film.v1.Film", "own.v1.Own", ""].map(|contract| health.serves(contract));
        assert_eq!(serves(), [Some(false); 3]);
        assert_eq!(health.serves("made.up.Service"), None);
        assert!(!health.summary().0 && health.summary().1.starts_with("starting: "));

        health.started();
        assert!(seen.has_changed().unwrap());
        assert_eq!(serves(), [Some(true); 3]);
        // A drain that comes first is final.
        health.drain();
        health.started();
        assert_eq!(serves(), [Some(false); 3]);
    }

    #[tokio::test]
    async fn service_that_cannot_work_at_the_start_is_never_ready() {
        let health = starting();
        let missing: Check =
            Box::new(|_| Box::pin(std::future::ready(Readiness::NotReady("no intentions".to_owned()))));
        health.look(&[("film", missing)]).await;
        health.started();
        assert_eq!(health.summary(), (false, "film: not ready: no intentions\n".to_owned()));
    }

    #[test]
    fn health_of_a_process_that_is_held_says_why() {
        let health = starting();
        health.hold(vec!["it waits".to_owned()]);
        health.record("film", Readiness::NotReady("the database is away".to_owned()));
        assert_eq!((health.serves("film.v1.Film"), health.serves("")), (Some(false), Some(false)));
        health.hold(vec!["one".to_owned(), "other".to_owned()]);
        assert_eq!(health.summary(), (false, "held: one\nheld: other\n".to_owned()));
        health.record("film", Readiness::Ready);
        assert_eq!(health.serves("film.v1.Film"), Some(false));
        let seen = health.0.state.subscribe();
        health.started();
        assert!(seen.has_changed().unwrap() && health.is_ready("film"));
        health.hold(vec!["too late".to_owned()]);
        assert!(health.is_ready("film"), "it holds no process that serves");
        health.drain();
        health.hold(Vec::new());
        assert!(health.summary().1.starts_with("draining"));
    }

    #[tokio::test(start_paused = true)]
    async fn health_of_a_check_that_races_the_drain_stays_not_serving() {
        // The service is away; a check that succeeds is running when the drain begins.
        let (answer, answered) = oneshot::channel::<()>();
        let answered = Mutex::new(Some(answered));
        let check: Check = Box::new(move |_| {
            let answered = answered.lock().unwrap().take();
            Box::pin(async move {
                match answered {
                    Some(answered) => match answered.await {
                        Ok(()) => Readiness::Ready,
                        Err(_) => Readiness::NotReady("cancelled".to_owned()),
                    },
                    None => Readiness::Ready,
                }
            })
        });
        let health = serving();
        health.record("film", Readiness::NotReady("away".to_owned()));
        let watching = tokio::spawn(health.clone().watch(vec![("film", check)]));
        sleep(Duration::from_millis(1)).await;

        health.drain();
        let mut seen = health.0.state.subscribe();
        answer.send(()).unwrap();
        sleep(Duration::from_millis(1)).await;
        assert!(!health.is_ready("film"));
        assert_eq!(health.summary(), (false, "draining: the process finishes its calls and ends\n".to_owned()));
        for contract in ["film.v1.Film", ""] {
            assert_eq!(health.serves(contract), Some(false), "{contract}");
        }
        assert!(!seen.has_changed().unwrap(), "watchers see no change after the drain");
        assert_eq!(seen.borrow_and_update().checked["film"], Readiness::Ready, "the check was recorded");
        watching.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn health_of_several_checks_is_the_worst() {
        let health = serving();
        let check = |found: Readiness| -> Check { Box::new(move |_| Box::pin(std::future::ready(found.clone()))) };
        let failing = || check(Readiness::NotReady("the certificate has expired".to_owned()));
        for checks in [vec![check(Readiness::Ready), failing()], vec![failing(), check(Readiness::Ready)]] {
            let checks = checks.into_iter().map(|check| ("film", check)).collect();
            let watching = tokio::spawn(health.clone().watch(checks));
            sleep(CHECK_INTERVAL * 3).await;
            assert_eq!(health.summary(), (false, "film: not ready: the certificate has expired\n".to_owned()));
            watching.abort();
            health.record("film", Readiness::Ready);
        }
    }

    #[test]
    fn health_of_a_degraded_service_is_serving() {
        let health = serving();
        let mut seen = health.0.state.subscribe();
        health.record("film", Readiness::Degraded("the database is read-only".to_owned()));
        assert_eq!(health.serves("film.v1.Film"), Some(true));
        assert!(!seen.has_changed().unwrap(), "watchers see no change");
        assert_eq!(health.summary(), (true, "degraded: film: the database is read-only\n".to_owned()));

        health.record("film", Readiness::NotReady("the database is away".to_owned()));
        assert_eq!(health.serves("film.v1.Film"), Some(false));
        assert!(seen.has_changed().unwrap());
        seen.mark_unchanged();
        health.record("film", Readiness::Degraded("the database is read-only".to_owned()));
        assert!(seen.has_changed().unwrap());
    }
}

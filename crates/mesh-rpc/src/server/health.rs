//! Whether a service is ready: it is, when the database it owns answers and the process is not about to end.
//!
//! Health says the same in three voices: `grpc.health.v1.Health` by the full name of a contract, the empty name for the
//! whole process, and `/readyz` for whoever speaks HTTP.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Checks whether a service can work, within a limit; if not, why, in a few words for an operator.
pub type Check = Box<dyn Fn(Duration) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// How often a check is made, and how long it may take to answer.
const EVERY: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(1);

/// The readiness of the services of a process. Cheap to clone.
#[derive(Clone)]
pub struct Health(Arc<Shared>);

struct Shared {
    reporter: HealthReporter,
    services: Vec<Watched>,
    /// By service: what is wrong, or `None`.
    problems: Mutex<BTreeMap<&'static str, Option<String>>>,
    /// From here on nothing becomes ready again.
    draining: AtomicBool,
}

/// What the readiness of one service depends on.
pub struct Watched {
    /// The service's name.
    pub name: &'static str,
    /// The full names of its gRPC services.
    pub contracts: Vec<&'static str>,
    /// Whether what it stands on answers, such as its database; `None` if it stands on nothing.
    pub check: Option<Check>,
}

impl Health {
    /// Everything is ready to begin with: a service is not built before its database has answered.
    pub async fn new(reporter: HealthReporter, services: Vec<Watched>) -> Self {
        let problems = services.iter().map(|service| (service.name, None)).collect();
        let health = Self(Arc::new(Shared {
            reporter,
            services,
            problems: Mutex::new(problems),
            draining: AtomicBool::new(false),
        }));
        for service in &health.0.services {
            health.report(&service.contracts, ServingStatus::Serving).await;
        }
        health
    }

    /// Asks every database again and again, and reports what changed. Never ends by itself.
    pub async fn watch(self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for service in &self.0.services {
                let Some(check) = &service.check else { continue };
                let problem = check(LIMIT).await.err();
                self.note(service, problem).await;
            }
        }
    }

    async fn note(&self, service: &Watched, problem: Option<String>) {
        if self.0.draining.load(Ordering::Relaxed) {
            return;
        }
        let before = self.lock().insert(service.name, problem.clone()).flatten();
        if before.is_some() == problem.is_some() {
            return;
        }
        let status = match &problem {
            Some(problem) => {
                tracing::warn!(service = service.name, problem, "not ready");
                ServingStatus::NotServing
            }
            None => {
                tracing::info!(service = service.name, "ready again");
                ServingStatus::Serving
            }
        };
        self.report(&service.contracts, status).await;
        let all_ready = self.lock().values().all(Option::is_none);
        self.report(&[""], if all_ready { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
    }

    /// Says of everything that it is not serving any more, so that balancers look elsewhere.
    pub async fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
        for service in &self.0.services {
            self.lock().insert(service.name, Some("draining".to_owned()));
            self.report(&service.contracts, ServingStatus::NotServing).await;
        }
        self.report(&[""], ServingStatus::NotServing).await;
    }

    async fn report(&self, contracts: &[&str], status: ServingStatus) {
        for contract in contracts {
            self.0.reporter.set_service_status(contract, status).await;
        }
    }

    /// Whether one of the services is.
    pub fn is_ready(&self, service: &str) -> bool {
        self.lock().get(service).is_some_and(Option::is_none)
    }

    /// One line a service, and whether all of them are ready.
    pub fn summary(&self) -> (bool, String) {
        let problems = self.lock();
        let ready = problems.values().all(Option::is_none);
        let line = |(name, problem): (&&str, &Option<String>)| match problem {
            None => format!("{name}: ready\n"),
            Some(problem) => format!("{name}: not ready: {problem}\n"),
        };
        (ready, problems.iter().map(line).collect())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Option<String>>> {
        self.0.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

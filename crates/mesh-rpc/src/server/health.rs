//! Health of the services: ready while their checks pass and the process does not drain.
//!
//! Three views show the same state: `grpc.health.v1.Health` by the full name of a contract, its empty name for the
//! process, and `/readyz` over HTTP.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Checks whether a service can work, within a time limit. The error is a short text for operators.
pub type Check = Box<dyn Fn(Duration) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// The interval between checks, and the limit for one check.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// The readiness of the services of a process. Cheap to clone.
#[derive(Clone)]
pub struct Health(Arc<HealthInner>);

struct HealthInner {
    reporter: HealthReporter,
    services: Vec<Watched>,
    /// The error of each service; `None` if it is ready.
    errors: Mutex<BTreeMap<&'static str, Option<String>>>,
    /// During a drain, no service becomes ready again.
    draining: AtomicBool,
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

impl Health {
    /// Starts with all services ready: a service is built only after its database has answered.
    pub async fn new(reporter: HealthReporter, services: Vec<Watched>) -> Self {
        let errors = services.iter().map(|service| (service.name, None)).collect();
        let health = Self(Arc::new(HealthInner {
            reporter,
            services,
            errors: Mutex::new(errors),
            draining: AtomicBool::new(false),
        }));
        for service in &health.0.services {
            health.report(&service.contracts, ServingStatus::Serving).await;
        }
        health
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
                self.record(service, error).await;
            }
        }
    }

    async fn record(&self, service: &Watched, error: Option<String>) {
        if self.0.draining.load(Ordering::Relaxed) {
            return;
        }
        let before = self.lock().insert(service.name, error.clone()).flatten();
        if before.is_some() == error.is_some() {
            return;
        }
        let status = match &error {
            Some(error) => {
                tracing::warn!(service = service.name, problem = error, "not ready");
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

    /// Reports NOT_SERVING for all services, so that balancers stop sending calls.
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

    /// Whether a service is ready.
    pub fn is_ready(&self, service: &str) -> bool {
        self.lock().get(service).is_some_and(Option::is_none)
    }

    /// Whether all services are ready, and one line for each service.
    pub fn summary(&self) -> (bool, String) {
        let errors = self.lock();
        let ready = errors.values().all(Option::is_none);
        let line = |(name, error): (&&str, &Option<String>)| match error {
            None => format!("{name}: ready\n"),
            Some(error) => format!("{name}: not ready: {error}\n"),
        };
        (ready, errors.iter().map(line).collect())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Option<String>>> {
        self.0.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The checks of what each service of a process needs, whatever it does: a certificate, and intentions.

use std::future::ready;

use super::health::{Check, Readiness};
use crate::auth;
use crate::auth::intentions::Intentions;
use crate::identity::{Source, Transport};

/// The checks of what each of `services` needs of the process. Waits for the first answer of Consul about intentions, for
/// a second at most.
pub async fn process_checks(
    transport: &Transport,
    auth: &auth::Settings,
    services: &[&'static str],
) -> Vec<(&'static str, Check)> {
    let mut checks = Vec::new();
    if let Some(source) = transport.certificates() {
        checks.extend(services.iter().map(|service| (*service, certificate(source.clone(), service))));
    }
    if let Some(intentions) = &auth.intentions {
        intentions.settled().await;
        checks.extend(services.iter().map(|service| (*service, of_intentions(intentions.clone()))));
    }
    checks
}

/// The certificate of a service has not ended.
fn certificate(source: Source, service: &'static str) -> Check {
    Box::new(move |_| Box::pin(ready(source.ended(service).map_or(Readiness::Ready, Readiness::NotReady))))
}

/// There are intentions, without which no other service may call.
fn of_intentions(intentions: Intentions) -> Check {
    Box::new(move |_| {
        let missing = intentions.missing().map(|why| format!("there are no intentions, so no service may call: {why}"));
        let stale = intentions.stale().map(|why| format!("the last intentions are in use: {why}"));
        let found = missing.map(Readiness::NotReady).or(stale.map(Readiness::Degraded));
        Box::pin(ready(found.unwrap_or(Readiness::Ready)))
    })
}

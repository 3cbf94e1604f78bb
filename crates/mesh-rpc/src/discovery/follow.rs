//! Follows the instances of a service with blocking queries to Consul.
//!
//! Guarantees:
//! - An error keeps the last known instances: they may outlive the agent (INV-8).
//! - A successful empty answer empties the set.
//! - An unchanged answer, such as after an expired wait, changes nothing.

use std::time::Duration;

use consul_api_client::Blocking;
use consul_api_client::health::{self, Query};
use tokio::time::sleep;

use super::agent::{Agent, QUERY_WAIT};
use crate::client::{Endpoints, Instance};

/// The least pause between two queries: a service that changes all the time costs at most 50 queries per second. A
/// single change is not delayed.
const MIN_PAUSE: Duration = Duration::from_millis(20);

/// Keeps `endpoints` set to the passing instances in Consul. Never returns.
pub(super) async fn follow(agent: Agent, service: &'static str, endpoints: Endpoints) {
    let query = Query::service(service).passing();
    let mut attempts = agent.attempts(format!("find `{service}`"));
    let (mut index, mut known): (_, Option<Answer>) = (0, None);
    loop {
        match agent.client().health().instances(&query, Blocking { index, wait: QUERY_WAIT }).await {
            Ok(answer) => {
                attempts.succeeded();
                index = answer.next(index);
                let found = Answer::new(&answer.value);
                if known.as_ref() != Some(&found) {
                    found.report(service, known.is_some());
                    endpoints.set(&found.instances);
                    known = Some(found);
                }
                sleep(MIN_PAUSE).await;
            }
            Err(error) => {
                // Calls wait for the first answer. An error ends the wait.
                if known.is_none() {
                    endpoints.set(&[]);
                }
                // A restarted agent starts with small indexes. It would hold a query with the old index for a whole
                // wait.
                index = 0;
                attempts.failed(&error).await;
            }
        }
    }
}

/// The instances of a service in one answer.
#[derive(PartialEq)]
struct Answer {
    /// Sorted by authority, so that the order of the answer does not matter.
    instances: Vec<Instance>,
    /// The ids of the instances without a valid address.
    unaddressable: Vec<String>,
}

impl Answer {
    fn new(found: &[health::Instance]) -> Self {
        let (mut instances, mut unaddressable) = (Vec::new(), Vec::new());
        for instance in found {
            match instance.authority().parse() {
                Ok(authority) if instance.service.port != 0 => {
                    instances.push(Instance { authority, weight: instance.weight() });
                }
                _ => unaddressable.push(instance.service.id.clone()),
            }
        }
        instances.sort_by(|a, b| a.authority.as_str().cmp(b.authority.as_str()));
        instances.dedup_by(|a, b| a.authority == b.authority);
        unaddressable.sort();
        Self { instances, unaddressable }
    }

    /// `known_before`: a set was known. Processes that start together do not find each other at once, which deserves no
    /// warning.
    fn report(&self, service: &str, known_before: bool) {
        if !self.unaddressable.is_empty() {
            tracing::warn!(
                service,
                instances = self.unaddressable.join(" "),
                "Consul has instances without a valid address"
            );
        }
        if self.instances.is_empty() {
            return match known_before {
                true => tracing::warn!(service, "no instance in Consul"),
                false => tracing::info!(service, "no instance in Consul yet"),
            };
        }
        let addresses: Vec<_> = self.instances.iter().map(|instance| instance.authority.as_str()).collect();
        tracing::info!(service, instances = addresses.join(" "), "found in Consul");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(address: &str, node: &str, port: u16, weight: u32) -> health::Instance {
        let json = format!(
            r#"{{"Node":{{"Node":"n","Address":"{node}"}},"Checks":[],
                "Service":{{"ID":"a","Service":"a","Address":"{address}","Port":{port},
                "Weights":{{"Passing":{weight},"Warning":1}}}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn follow_falls_back_to_the_address_of_the_node() {
        let all = [
            found("b.internal", "10.0.0.9", 2, 1),
            found("", "10.0.0.7", 1, 5),
            found("fd00::1", "10.0.0.9", 3, 1),
            found("10.0.0.7", "10.0.0.9", 1, 5),
            found("10.0.0.8", "10.0.0.9", 0, 1),
            found("no host", "10.0.0.9", 1, 1),
        ];
        let found = Answer::new(&all);
        assert_eq!(found.unaddressable.len(), 2);
        let instances: Vec<_> = found.instances.iter().map(|i| (i.authority.to_string(), i.weight)).collect();
        let expected = [("10.0.0.7:1", 5), ("[fd00::1]:3", 1), ("b.internal:2", 1)];
        assert_eq!(instances, expected.map(|(authority, weight)| (authority.to_owned(), weight)));
    }
}

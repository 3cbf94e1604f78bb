//! Knowing the instances of a service: one blocking query after the other.
//!
//! A failure changes nothing: callers go on with what was known, since instances outlive agents. An empty answer
//! empties the set. An answer that is what is known already, as the end of every wait is, goes no further.

use std::time::Duration;

use consul_api_client::Blocking;
use consul_api_client::health::{self, Query};
use tokio::time::sleep;

use super::agent::{Agent, WAIT};
use crate::client::{Endpoints, Instance};

/// Between two questions, so that a service whose instances come and go all the time costs no more than fifty of them a
/// second. A change by itself does not wait for it.
const BREATH: Duration = Duration::from_millis(20);

/// Keeps `endpoints` what Consul says. Never ends by itself.
pub(super) async fn follow(agent: Agent, service: &'static str, endpoints: Endpoints) {
    let query = Query::service(service).passing();
    let mut attempts = agent.attempts(format!("find `{service}`"));
    let (mut index, mut known): (_, Option<Found>) = (0, None);
    loop {
        match agent.client().health().instances(&query, Blocking { index, wait: WAIT }).await {
            Ok(answer) => {
                attempts.succeeded();
                index = answer.next(index);
                let found = Found::new(&answer.value);
                if known.as_ref() != Some(&found) {
                    found.report(service, known.is_some());
                    endpoints.set(&found.instances);
                    known = Some(found);
                }
                sleep(BREATH).await;
            }
            Err(error) => {
                // Callers have waited for the first answer, and there is none.
                if known.is_none() {
                    endpoints.set(&[]);
                }
                // A fresh agent would compare it with its own small ones, and hold the question for a whole wait.
                index = 0;
                attempts.failed(&error).await;
            }
        }
    }
}

/// What there is of a service.
#[derive(PartialEq)]
struct Found {
    /// In an order that does not depend on that of the answer.
    instances: Vec<Instance>,
    /// The ids of those that nobody could call where they say they are.
    nowhere: Vec<String>,
}

impl Found {
    fn new(found: &[health::Instance]) -> Self {
        let (mut instances, mut nowhere) = (Vec::new(), Vec::new());
        for instance in found {
            match instance.authority().parse() {
                Ok(authority) if instance.service.port != 0 => {
                    instances.push(Instance { authority, weight: instance.weight() });
                }
                _ => nowhere.push(instance.service.id.clone()),
            }
        }
        instances.sort_by(|a, b| a.authority.as_str().cmp(b.authority.as_str()));
        instances.dedup_by(|a, b| a.authority == b.authority);
        nowhere.sort();
        Self { instances, nowhere }
    }

    /// `again` if something was known before: processes that start together do not find each other at once.
    fn report(&self, service: &str, again: bool) {
        if !self.nowhere.is_empty() {
            tracing::warn!(service, instances = self.nowhere.join(" "), "in Consul without an address to call");
        }
        if self.instances.is_empty() {
            return match again {
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
    fn an_instance_is_where_it_says_or_on_its_node() {
        let all = [
            found("b.internal", "10.0.0.9", 2, 1),
            found("", "10.0.0.7", 1, 5),
            found("fd00::1", "10.0.0.9", 3, 1),
            found("10.0.0.7", "10.0.0.9", 1, 5),
            found("10.0.0.8", "10.0.0.9", 0, 1),
            found("no host", "10.0.0.9", 1, 1),
        ];
        let found = Found::new(&all);
        assert_eq!(found.nowhere.len(), 2);
        let places: Vec<_> = found.instances.iter().map(|i| (i.authority.to_string(), i.weight)).collect();
        let expected = [("10.0.0.7:1", 5), ("[fd00::1]:3", 1), ("b.internal:2", 1)];
        assert_eq!(places, expected.map(|(authority, weight)| (authority.to_owned(), weight)));
    }
}

//! Follows the intentions for calls of this process with blocking queries to Consul.
//!
//! Guarantees:
//! - An error keeps the intentions in use.
//! - An answer counts at once, also an empty one: it denies.
//!
//! The list has an index, and silently omits what the token may not read. So the list is waited for, and the intentions
//! of each service, which Consul refuses then, are read after a change.

use std::collections::BTreeMap;
use std::time::Duration;

use consul_api_client::intentions::Intention;
use consul_api_client::{Blocking, Error};
use tokio::time::sleep;

use super::agent::{Agent, QUERY_WAIT};
use crate::auth::intentions::Intentions;

/// The least pause between two queries.
const MIN_PAUSE: Duration = Duration::from_millis(20);

/// Keeps `intentions` those that Consul has for calls of `services`. Never returns.
pub(super) async fn follow(agent: Agent, intentions: Intentions, services: Vec<&'static str>) {
    let rule = services.iter().map(|service| format!("intentions:read on {service}")).collect::<Vec<_>>().join(", ");
    let mut attempts = agent.attempts("read intentions".to_owned()).needing(rule.clone());
    let mut index = 0;
    loop {
        match read(&agent, index, &services).await {
            Ok((next, found)) => {
                attempts.succeeded();
                index = next;
                intentions.answered(found);
                sleep(MIN_PAUSE).await;
            }
            Err(error) => {
                intentions.unanswered(match error {
                    Error::Permission { .. } => format!("{error}; the token needs {rule}"),
                    _ => error.to_string(),
                });
                // A restarted agent starts with small indexes.
                index = 0;
                attempts.failed(&error).await;
            }
        }
    }
}

/// Waits for a change after `index`, and reads the intentions. Returns the index of the next one, too.
async fn read(agent: &Agent, index: u64, services: &[&str]) -> Result<(u64, BTreeMap<String, Vec<Intention>>), Error> {
    let asked = agent.client().intentions();
    let changed = asked.changed(Blocking { index, wait: QUERY_WAIT }).await?;
    Ok((changed.next(index), asked.of_destinations(services).await?))
}

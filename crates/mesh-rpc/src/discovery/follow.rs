//! Follows the instances of a service with blocking queries to Consul.
//!
//! Guarantees:
//! - An error keeps the last known instances: they may outlive the agent (INV-8).
//! - Instances that are not passing are called while none is: if a shared dependency fails, all instances are critical
//!   at once, and their answers say why. An instance in maintenance is never called, and counts as known: an answer
//!   with such instances only empties the set at once.
//! - An answer without instances empties the set: all have deregistered. After an error of the agent it does so only if
//!   it stays empty for 5 s, because an agent that restarted may have lost its state and gets it back.
//! - An unchanged answer, such as after an expired wait, changes nothing.

use std::time::Duration;

use consul_api_client::Blocking;
use consul_api_client::health::{self, CheckStatus, Query};
use tokio::time::{Instant, sleep};

use super::agent::{Agent, QUERY_WAIT};
use crate::client::{Endpoints, Instance};

/// The least pause between two queries: a service that changes all the time costs at most 50 queries per second. A
/// single change is not delayed.
const MIN_PAUSE: Duration = Duration::from_millis(20);
/// How long an agent that was away may miss instances. Processes register again at most 1 s after its return.
const RECOVERY: Duration = Duration::from_secs(5);
/// The prefixes of the checks that Consul adds to an instance or a node in maintenance.
const MAINTENANCE: [&str; 2] = ["_service_maintenance", "_node_maintenance"];

/// Keeps `endpoints` set to the instances in Consul. Never returns.
pub(super) async fn follow(agent: Agent, service: &'static str, endpoints: Endpoints) {
    let query = Query::service(service);
    let mut attempts = agent.attempts(format!("find `{service}`"));
    let (mut index, mut view) = (0, View::default());
    loop {
        let wait = view.recovering().unwrap_or(QUERY_WAIT);
        match agent.client().health().instances(&query, Blocking { index, wait }).await {
            Ok(answer) => {
                attempts.succeeded();
                let next = answer.next(index);
                if next < index {
                    view.lost();
                }
                index = next;
                let was_known = view.known.is_some();
                if let Some(found) = view.change(Answer::new(&answer.value)) {
                    found.report(service, was_known);
                    match found.is_in_maintenance() {
                        true => endpoints.set_empty("all instances in Consul are in maintenance"),
                        false => endpoints.set(&found.instances),
                    }
                }
                sleep(MIN_PAUSE).await;
            }
            Err(error) => {
                // Calls wait for the first answer. An error ends the wait.
                if view.known.is_none() {
                    endpoints.set_empty("Consul has not answered yet");
                }
                view.lost();
                // A restarted agent starts with small indexes. It would hold a query with the old index for a whole
                // wait.
                index = 0;
                attempts.failed(&error).await;
            }
        }
    }
}

/// The last known instances, and whether an empty answer can be believed.
#[derive(Default)]
struct View {
    known: Option<Answer>,
    agent: AgentState,
}

#[derive(Default)]
enum AgentState {
    #[default]
    Steady,
    /// It may have lost its state, and has not answered since.
    Lost,
    /// It has answered again, at this time.
    Back(Instant),
}

impl View {
    /// Records that the agent may have lost its state: an error, or an index that went backwards.
    fn lost(&mut self) {
        self.agent = AgentState::Lost;
    }

    /// The rest of the time in which an empty answer is not believed.
    fn recovering(&self) -> Option<Duration> {
        match self.agent {
            AgentState::Back(since) => RECOVERY.checked_sub(since.elapsed()).filter(|rest| !rest.is_zero()),
            AgentState::Steady | AgentState::Lost => None,
        }
    }

    /// Takes an answer, and returns it if it changes the known instances.
    fn change(&mut self, found: Answer) -> Option<&Answer> {
        if matches!(self.agent, AgentState::Lost) {
            self.agent = AgentState::Back(Instant::now());
        }
        let has_lost_all = self.known.is_some() && found.is_empty() && self.recovering().is_some();
        if has_lost_all || self.known.as_ref() == Some(&found) {
            return None;
        }
        Some(self.known.insert(found))
    }
}

/// The instances of a service in one answer.
#[derive(Debug, PartialEq)]
struct Answer {
    /// The instances to call, sorted by authority, so that the order of the answer does not matter.
    instances: Vec<Instance>,
    /// Whether all instances pass their checks. If not, none does.
    healthy: bool,
    /// The ids of the instances without a valid address.
    unaddressable: Vec<String>,
    /// The ids of the instances that an operator has taken out of service.
    maintained: Vec<String>,
}

impl Answer {
    fn new(found: &[health::Instance]) -> Self {
        let (mut passing, mut rest) = (Vec::new(), Vec::new());
        let (mut unaddressable, mut maintained) = (Vec::new(), Vec::new());
        for instance in found {
            match instance.authority().parse() {
                // The weight of a critical instance would be 0: those called without a choice share the calls as usual.
                Ok(authority) if instance.service.port != 0 => match instance.status() {
                    CheckStatus::Passing => passing.push(Instance { authority, weight: instance.weight() }),
                    _ if is_in_maintenance(instance) => maintained.push(instance.service.id.clone()),
                    _ => rest.push(Instance { authority, weight: instance.service.weights.passing }),
                },
                _ => unaddressable.push(instance.service.id.clone()),
            }
        }
        let healthy = !passing.is_empty() || rest.is_empty();
        let mut instances = if healthy { passing } else { rest };
        instances.sort_by(|a, b| a.authority.as_str().cmp(b.authority.as_str()));
        instances.dedup_by(|a, b| a.authority == b.authority);
        unaddressable.sort();
        maintained.sort();
        Self { instances, healthy, unaddressable, maintained }
    }

    /// Whether Consul has no instance at all.
    fn is_empty(&self) -> bool {
        self.instances.is_empty() && self.unaddressable.is_empty() && self.maintained.is_empty()
    }

    /// Whether no instance is called because an operator has taken some out of service.
    fn is_in_maintenance(&self) -> bool {
        self.instances.is_empty() && !self.maintained.is_empty()
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
        let in_maintenance = Some(self.maintained.join(" ")).filter(|ids| !ids.is_empty());
        if self.is_in_maintenance() {
            return tracing::warn!(service, in_maintenance, "all instances in Consul are in maintenance");
        }
        if self.instances.is_empty() {
            return match known_before {
                true => tracing::warn!(service, "no instance in Consul"),
                false => tracing::info!(service, "no instance in Consul yet"),
            };
        }
        let addresses: Vec<_> = self.instances.iter().map(|instance| instance.authority.as_str()).collect();
        let instances = addresses.join(" ");
        match self.healthy {
            true => tracing::info!(service, instances, in_maintenance, "found in Consul"),
            false => tracing::warn!(
                service,
                instances,
                in_maintenance,
                "no instance in Consul passes its checks: calling all of them"
            ),
        }
    }
}

/// Whether an operator has taken an instance or its node out of service.
fn is_in_maintenance(instance: &health::Instance) -> bool {
    instance.checks.iter().any(|check| MAINTENANCE.iter().any(|prefix| check.id.starts_with(prefix)))
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

    /// Instances on consecutive ports, each with a check of this id in this state.
    fn checked(checks: &[(&str, &str)]) -> Vec<health::Instance> {
        let instance = |(port, (id, status)): (u16, &(&str, &str))| {
            let mut instance = found("10.0.0.7", "", port, 5);
            let json = format!(r#"{{"CheckID":"{id}","Status":"{status}"}}"#);
            instance.checks.push(serde_json::from_str(&json).unwrap());
            instance
        };
        (1..).zip(checks).map(instance).collect()
    }

    fn ports(answer: &Answer) -> Vec<(u16, u32)> {
        answer.instances.iter().map(|i| (i.authority.port_u16().unwrap(), i.weight)).collect()
    }

    #[test]
    fn follow_takes_unhealthy_instances_only_while_none_passes() {
        let some = Answer::new(&checked(&[("grpc", "critical"), ("grpc", "passing"), ("grpc", "warning")]));
        assert_eq!((ports(&some), some.healthy), (vec![(2, 5)], true));
        let none = Answer::new(&checked(&[("grpc", "critical"), ("serfHealth", "critical"), ("grpc", "warning")]));
        assert_eq!((ports(&none), none.healthy), (vec![(1, 5), (2, 5), (3, 5)], false));
        let maintained = [("_service_maintenance:a", "critical"), ("_node_maintenance", "critical")];
        let one = Answer::new(&checked(&[maintained[0], maintained[1], ("grpc", "critical")]));
        assert_eq!(ports(&one), [(3, 5)]);
        let all = Answer::new(&checked(&maintained));
        assert_eq!((ports(&all), &*all.maintained), (Vec::new(), &["a".to_owned(), "a".to_owned()][..]));
        assert!(all.is_in_maintenance() && !one.is_in_maintenance() && !Answer::new(&[]).is_in_maintenance());
    }

    #[tokio::test(start_paused = true)]
    async fn empty_answer_after_an_error_is_believed_after_a_while() {
        let one = || Answer::new(&[found("10.0.0.7", "", 1, 1)]);
        let none = || Answer::new(&[]);
        let mut view = View::default();
        view.lost();
        assert_eq!(view.change(none()), Some(&none()), "nothing was known");
        assert_eq!(view.change(one()), Some(&one()));
        assert_eq!(view.change(one()), None, "nothing has changed");

        sleep(RECOVERY).await;
        assert_eq!(view.change(none()), Some(&none()), "a steady agent is believed at once");
        view.change(one());
        // However long the agent was away: the time counts from its first answer.
        view.lost();
        sleep(RECOVERY * 2).await;
        assert_eq!(view.change(none()), None);
        sleep(RECOVERY - Duration::from_millis(10)).await;
        assert_eq!(view.change(none()), None);
        assert_eq!(view.recovering(), Some(Duration::from_millis(10)), "the wait of the next query");
        sleep(Duration::from_millis(10)).await;
        assert_eq!(view.change(none()), Some(&none()), "all instances have gone");
        assert_eq!(view.recovering(), None);

        view.change(one());
        view.lost();
        assert_eq!(view.change(none()), None);
        let other = || Answer::new(&[found("10.0.0.8", "", 1, 1)]);
        assert_eq!(view.change(other()), Some(&other()), "an answer with instances is believed at once");
        assert_eq!(view.change(none()), None, "they may not be all: others may register again");
    }

    #[tokio::test(start_paused = true)]
    async fn maintenance_after_an_error_is_believed_at_once() {
        let mut view = View::default();
        view.change(Answer::new(&[found("10.0.0.7", "", 1, 1)]));
        view.lost();
        let maintained = || Answer::new(&checked(&[("_service_maintenance:a", "critical")]));
        assert_eq!(view.change(maintained()), Some(&maintained()), "the agent has not lost its state");
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

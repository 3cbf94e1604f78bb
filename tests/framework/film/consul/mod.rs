//! Being found, and finding others, through Consul: real agents, which come late, forget, answer nonsense and go away.
//!
//! What an integration owes its users, and which test holds it. Those of `agent` are in crates/consul-api-client/tests.
//!
//! | what | where |
//! |---|---|
//! | starts and serves without an agent, registers when there is one | [`outages`]: `an_agent_may_come_late_and_is_missed_once` |
//! | every instance has an id of its own; one that dies leaves the other | [`finding`]: `calls_go_to_all_instances_and_not_to_those_that_went` |
//! | sends what the agent's version knows, and no more | every test: an unknown field is refused |
//! | registers checks in the place of older ones | `agent`: `register_removes_checks_of_the_previous_registration`; [`registering`]: `who_is_killed_…` |
//! | is registered again soon after its agent's restart | [`outages`]: `an_agent_that_has_forgotten_is_told_again` |
//! | a registration that is repeated moves no index | [`registering`]: `a_registration_that_is_repeated_changes_nothing` |
//! | passes within 2 s of its start | [`registering`]: `a_service_is_passing_within_two_seconds_of_its_start` |
//! | is critical soon after it was killed, and gone after a minute | [`registering`]: `who_is_killed_…` |
//! | is asked to end: gone from Consul first, then drained | [`leaving`]: `who_is_asked_to_end_is_gone_from_consul_before` |
//! | does not register again once it has left | [`leaving`]: `a_registration_in_flight_does_not_outlive_its_process` |
//! | keeps what it knows through outages and errors | [`outages`]: `an_agent_that_fails_…`, `an_agent_that_has_forgotten_…` |
//! | an empty answer is an answer | [`finding`]: `a_service_without_instances_has_none` |
//! | forgets its index when the agent has | [`outages`]: `what_is_new_is_seen_soon_after_a_restart` |
//! | reads no index from an error | [`outages`]: `an_agent_that_fails_changes_nothing` |
//! | notices an agent that stands still | [`outages`]: `an_agent_that_stands_still_is_noticed_and_holds_nobody` |
//! | costs nothing while its agent is away | [`outages`]: `an_agent_that_is_away_costs_nothing` |
//! | bears flapping, and learns of a change at once | [`finding`]: `flapping_costs_little_and_hides_nothing` |
//! | one watch for each service, however many channels | [`finding`]: `all_channels_share_one_watch` |
//! | what stays keeps its connections | [`finding`]: `who_stays_keeps_its_connections` |
//! | falls back to the node's address, heeds weights, tags and meta | [`finding`]: `an_instance_without_an_address_…`, `who_weighs_more_…`; `agent`: `instances_are_listed_until_they_deregister` |
//! | says what a token lacks, and where it comes from | [`access`]: `the_policies_allow_what_a_service_does_and_no_more` |
//! | warns who does not see itself | [`access`]: `who_does_not_see_itself_is_warned` |

mod access; // what a token allows
mod finding; // knowing the instances of others
mod leaving; // going before the process does
mod outages; // an agent that comes late, forgets, fails, stands still, is away
mod registering; // being found

use std::net::SocketAddr;
use std::time::Duration;

use harness::film::tiny_picture;
use harness::{Consul, Process, eventually, uuid};
use serde_json::{Value, json};

/// What a busy machine may take on top.
const SLACK: Duration = Duration::from_secs(3);

fn start(binary: &str, consul: &Consul) -> Process {
    Process::start(binary, &[("MESH__REGISTRY", &consul.registry())])
}

/// The code and the reason of a call for which artwork has to ask the catalog.
pub(crate) fn ask(artwork: &Process) -> (String, String) {
    let request = json!({"request_id": uuid(), "title_id": uuid(), "image": tiny_picture()});
    artwork.grpcurl().call_with_input("artwork.v1.ArtworkService/RenderArtwork", &request).failure()
}

pub(crate) fn answered() -> (String, String) {
    ("NotFound".to_owned(), "TITLE_NOT_FOUND".to_owned())
}

fn times(log: &str, words: &str) -> usize {
    log.lines().filter(|line| line.contains(words)).count()
}

/// A process that passes calls on to catalogs that it finds through Consul.
fn hop(registry: &str) -> Process {
    Process::start("hop", &[("MESH__REGISTRY", registry)])
}

/// Registers an instance of the catalog by hand, with more to be said of it, and waits until Consul's own catalog has it:
/// the agent passes it on a moment after it has answered.
fn enter(consul: &Consul, id: &str, address: SocketAddr, more: &Value) {
    let mut entry = json!({"ID": id, "Name": "catalog", "Address": address.ip(), "Port": address.port()});
    for (key, value) in more.as_object().expect("keys and values") {
        entry[key] = value.clone();
    }
    consul.put("/v1/agent/service/register", &entry);
    let listed = || consul.instances("catalog").iter().any(|instance| instance["Service"]["ID"] == id);
    eventually("Consul lists it", || listed().then_some(()));
}

fn remove(consul: &Consul, id: &str) {
    consul.put(&format!("/v1/agent/service/deregister/{id}"), &Value::Null);
}

/// Whether a process has found an instance there, at any time.
fn has_found(process: &Process, address: SocketAddr) -> Option<()> {
    let address = address.to_string();
    let found = process.log().lines().any(|line| line.contains("found in Consul") && line.contains(&address));
    found.then_some(())
}

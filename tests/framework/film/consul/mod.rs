//! Registration and discovery through Consul, with real agents that start late, lose their data, answer nonsense and
//! stop.
//!
//! The behaviour that users of Consul expect of a client, and the test of each. Tests of `agent` are in
//! crates/consul-api-client/tests.
//!
//! | what | where |
//! |---|---|
//! | starts and serves without an agent, registers when one starts | [`outages`]: `late_agent_is_used_and_its_absence_logged_once` |
//! | every instance has an id of its own; one that dies leaves the other | [`finding`]: `calls_reach_all_instances_and_no_deregistered_one` |
//! | sends only fields that the agent's version knows | every test: an unknown field is refused |
//! | replaces the checks of an earlier registration | `agent`: `register_removes_checks_of_the_previous_registration`; [`registering`]: `killed_instance_is_critical_…` |
//! | is registered again soon after its agent's restart | [`outages`]: `agent_restart_registers_again` |
//! | a repeated registration moves no index | [`registering`]: `repeated_registration_moves_no_index` |
//! | passes within 2 s of its start | [`registering`]: `registration_is_passing_within_two_seconds` |
//! | a killed instance is critical soon, and removed after a minute | [`registering`]: `killed_instance_…` |
//! | a drain deregisters first | [`leaving`]: `drain_deregisters_first` |
//! | does not register again after the deregistration | [`leaving`]: `registration_in_flight_does_not_outlive_its_process` |
//! | keeps the known instances through outages and errors | [`outages`]: `failing_agent_…`, `agent_restart_registers_again` |
//! | an agent that restarts without its data fails no call | [`outages`]: `agent_restart_under_load_fails_no_call` |
//! | while no instance passes its checks, all are called | [`finding`]: `unhealthy_instances_are_called_while_none_passes` |
//! | an empty list of instances is valid | [`finding`]: `service_without_instances_is_unavailable` |
//! | resets its index after the agent's restart | [`outages`]: `agent_restart_resets_the_watch_index` |
//! | ignores the index of an error | [`outages`]: `failing_agent_keeps_known_instances` |
//! | notices a stopped agent | [`outages`]: `stopped_agent_is_noticed_and_blocks_no_call` |
//! | uses no CPU while its agent is away | [`outages`]: `missing_agent_costs_no_cpu` |
//! | bounds queries under flapping, and sees a change at once | [`finding`]: `flapping_costs_little_and_hides_no_change` |
//! | one watch for each service, however many channels | [`finding`]: `channels_share_one_watch` |
//! | an unchanged instance keeps its connections | [`finding`]: `unchanged_instance_keeps_its_connections` |
//! | falls back to the node's address, uses weights, tags and meta | [`finding`]: `instance_without_an_address_…`, `weight_sets_…`; `agent`: `instances_are_listed_until_they_deregister` |
//! | the error names the missing permission and the token's setting | [`access`]: `policies_allow_what_services_do_and_no_more` |
//! | follows a change of intentions within a second, also of open streams | [`intentions`]: `intention_revoked_in_consul_ends_streams_and_calls` |
//! | keeps its intentions while Consul is away, and has none before an answer | [`intentions`]: `intentions_of_consul_hold_while_it_is_away` |
//! | names the permission that intentions need | [`intentions`]: `token_without_intentions_read_is_named_and_denies` |
//! | warns if the token cannot read the service's own node | [`access`]: `token_without_node_read_is_warned_about` |

mod access; // tokens
mod finding; // discovery
mod intentions; // who may call
mod leaving; // deregistration
mod outages; // an agent that starts late, restarts, fails, stops or is away
mod registering; // registration

use std::net::SocketAddr;
use std::time::Duration;

use harness::film::tiny_picture;
use harness::{Consul, Process, eventually, uuid};
use serde_json::{Value, json};

/// The slack of a busy machine.
const SLACK: Duration = Duration::from_secs(3);

fn start(binary: &str, consul: &Consul) -> Process {
    Process::start(binary, &[("MESH__REGISTRY", &consul.registry())])
}

/// The code and the reason of a call that makes artwork call the catalog.
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

/// A process that passes calls on to the catalogs that it finds in Consul.
fn hop(registry: &str) -> Process {
    // The gate of releases asks instances by connections of its own.
    Process::start("hop", &[("MESH__REGISTRY", registry), ("MESH__RELEASE__GATE", "off")])
}

/// Registers an instance of the catalog by hand, with more fields, and waits until Consul's catalog lists it: the agent
/// answers a moment before.
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

/// Whether a process has logged that it found this instance.
fn has_found(process: &Process, address: SocketAddr) -> Option<()> {
    let address = address.to_string();
    let found = process.log().lines().any(|line| line.contains("found in Consul") && line.contains(&address));
    found.then_some(())
}

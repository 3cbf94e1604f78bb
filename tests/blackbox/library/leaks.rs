//! A saga that is cancelled, passes its deadline or loses billing while it charges: never charged and not granted.

use std::time::Duration;

use harness::{Grpcurl, Process, Proxy, eventually, eventually_within};
use serde_json::{Value, json};

use super::topologies::{Processes, database, environment, library_beside};
use super::{CHARGED, REFUNDED, System, VOIDED, reason, request, steps};

/// Starts a rental, and waits until it has begun to charge.
fn start_charging(system: &System<'_>, request: &Value) -> String {
    let name = system.start(request);
    eventually("it charges", || {
        let operation = get(system, &name);
        steps(&operation).contains(&("charge".to_owned(), "BEGUN".to_owned())).then_some(())
    });
    name
}

fn get(system: &System<'_>, name: &str) -> Value {
    system.library.call("google.longrunning.Operations/GetOperation", &json!({"name": name})).json()
}

/// Checks that a rental came to nothing.
fn assert_undone(system: &mut System<'_>, request: &Value) {
    assert_eq!(system.rental(request)["state"], "RENTAL_STATE_RELEASED");
    let states = system.states();
    assert!(matches!(states[..], [REFUNDED | VOIDED]), "{states:?}");
}

#[test]
fn rental_cancelled_while_charging_is_undone() {
    if !Grpcurl::installed() {
        return;
    }
    let processes = Processes::start();
    let grpcurls = processes.grpcurls();
    let mut system = processes.system(&grpcurls);
    let request = request(&system.title());
    // The charge arrives, and is answered after the cancellation.
    processes.billing.signal("STOP");
    let name = start_charging(&system, &request);
    system.library.call("google.longrunning.Operations/CancelOperation", &json!({"name": name})).json();
    eventually("it is undone", || (get(&system, &name)["metadata"]["phase"] == "PHASE_UNDOING").then_some(()));
    processes.billing.signal("CONT");
    let done = harness::film::wait(system.library, &name);
    assert_eq!(reason(&done), "OPERATION_CANCELLED", "{done}");
    assert_undone(&mut system, &request);
}

#[test]
fn rental_past_its_deadline_while_charging_is_undone() {
    if !Grpcurl::installed() {
        return;
    }
    let processes = Processes::start();
    let grpcurls = processes.grpcurls();
    let mut system = processes.system(&grpcurls);
    let request = request(&system.title());
    processes.billing.signal("STOP");
    let name = start_charging(&system, &request);
    let Processes { catalog, billing, library } = processes;
    let address = library.address.to_string();
    // As if an hour had passed.
    let folder = library.kill();
    harness::execute(
        &format!("sqlite://{}/data/library.db", folder.path().display()),
        "UPDATE operations SET deadline_at = 1",
    );
    let (catalog_at, billing_at) = (catalog.address.to_string(), billing.address.to_string());
    let network = environment(&catalog_at, &billing_at);
    let library = Process::start_in(folder, "library", &[&network[..], &[("MESH__LISTEN", &address)]].concat());
    eventually("it is undone", || (get(&system, &name)["metadata"]["phase"] == "PHASE_UNDOING").then_some(()));
    billing.signal("CONT");
    let done = harness::film::wait(system.library, &name);
    assert_eq!(reason(&done), "OPERATION_DEADLINE_EXCEEDED", "{done}");
    assert_undone(&mut system, &request);
    drop(library);
}

#[test]
fn rental_without_billing_in_all_attempts_is_undone() {
    if !Grpcurl::installed() {
        return;
    }
    let (catalog, billing) = (Process::start("catalog", &[]), Process::start("billing", &[]));
    let network = Proxy::to(billing.address);
    let library = library_beside(&catalog.address.to_string(), &network.address.to_string());
    let grpcurls = [catalog.grpcurl(), library.grpcurl()];
    let charges = database(&billing, "billing");
    let mut system = System { catalog: &grpcurls[0], library: &grpcurls[1], charges };
    let request = request(&system.title());
    network.refuse();
    let name = system.start(&request);
    eventually_within(Duration::from_secs(90), "all attempts have failed", || {
        (get(&system, &name)["metadata"]["phase"] == "PHASE_UNDOING").then_some(())
    });
    assert_eq!(get(&system, &name)["done"], Value::Null, "it is done before it is undone");
    network.heal();
    let done = eventually_within(Duration::from_secs(90), "it is undone", || {
        let operation = get(&system, &name);
        (operation["done"] == true).then_some(operation)
    });
    assert_eq!(reason(&done), "ENDPOINT_UNREACHABLE", "{done}");
    assert_undone(&mut system, &request);

    // The title is free again, and billing answers.
    let again = super::with(&request, "card", "test");
    let done = harness::film::wait(system.library, &system.start(&again));
    assert_eq!(done["response"]["rental"]["state"], "RENTAL_STATE_GRANTED", "{done}");
    assert_eq!(system.states().iter().filter(|state| **state == CHARGED).count(), 1);
}

//! A rolling restart: instances drain and start again, one after the other, without a failed call.

use harness::{Consul, Process};

use super::catalogs::{Catalogs, caller_through};
use super::hops;
use super::load::{Kind, Load, seconds};

/// All methods, also those that must not be retried.
const ALL: &[Kind] = &[Kind::Get, Kind::Get, Kind::Create, Kind::CreateAndDelete];
/// Calls a second.
const RATE: u32 = 80;

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn rolling_restart_fails_no_call() {
    let Some(catalogs) = Catalogs::start(None) else { return };
    let caller = hops::to(&catalogs.addresses());
    replace_all(catalogs, &caller);
}

#[test]
#[ignore = "needs Postgres and Consul: .ci/full"]
fn rolling_restart_fails_no_call_with_consul() {
    let Some(consul) = Consul::start() else { return };
    let Some(catalogs) = Catalogs::start(Some(&consul)) else { return };
    let caller = caller_through(&consul);
    replace_all(catalogs, &caller);
}

fn replace_all(mut catalogs: Catalogs, caller: &Process) {
    let load = Load::begin(caller.address, RATE, ALL);
    catalogs.is_called(0);
    catalogs.is_called(1);
    // Two replicas, twice; more often in `scripts/soak`.
    for index in (0..seconds(4)).map(|round| round % 2) {
        load.wait_for_calls(RATE as usize / 2);
        catalogs.end(index);
        catalogs.start_again(index);
    }
    load.wait_for_calls(RATE as usize / 2);
    println!("{} retries", hops::metric(caller, "mesh_peer_retries_total"));
    load.end_without_failures();
}

//! A new version of a service: one instance after the other ends well and starts again, and nobody notices.

use harness::{Consul, Process};

use super::catalogs::{Catalogs, caller_through};
use super::hops;
use super::load::{Kind, Load, seconds};

/// All there is, also what nobody may repeat.
const ALL: &[Kind] = &[Kind::Get, Kind::Get, Kind::Create, Kind::CreateAndDelete];
/// Calls a second.
const RATE: u32 = 80;

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn no_call_fails() {
    let Some(catalogs) = Catalogs::start(None) else { return };
    let caller = hops::to(&catalogs.addresses());
    replace_all(catalogs, &caller);
}

#[test]
#[ignore = "needs Postgres and Consul: .ci/full"]
fn no_call_fails_with_consul() {
    let Some(consul) = Consul::start() else { return };
    let Some(catalogs) = Catalogs::start(Some(&consul)) else { return };
    let caller = caller_through(&consul);
    replace_all(catalogs, &caller);
}

fn replace_all(mut catalogs: Catalogs, caller: &Process) {
    let load = Load::begin(caller.address, RATE, ALL);
    catalogs.is_called(0);
    catalogs.is_called(1);
    // Two replicas, twice; or oftener, for those who have the time.
    for index in (0..seconds(4)).map(|round| round % 2) {
        load.goes_on(RATE as usize / 2);
        catalogs.end(index);
        catalogs.start_again(index);
    }
    load.goes_on(RATE as usize / 2);
    println!("{} retries", hops::metric(caller, "mesh_peer_retries_total"));
    load.ends_well();
}

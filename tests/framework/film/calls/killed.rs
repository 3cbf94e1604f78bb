//! An instance is killed while it is called.
//!
//! The test takes some seconds here, and half a minute in `scripts/soak`.

use std::time::{Duration, Instant};

use harness::{Consul, Process, eventually};
use tonic::Code;

use super::catalogs::{Catalogs, caller_through};
use super::hops;
use super::load::{Client, Kind, Load, seconds};

/// Calls that may be retried.
const IDEMPOTENT: &[Kind] = &[Kind::Get, Kind::Get, Kind::Get, Kind::Get, Kind::Create];
/// Calls a second.
const RATE: u32 = 200;
/// The slack of a busy machine.
const SLACK: Duration = Duration::from_secs(2);

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn killed_instance_fails_no_idempotent_call() {
    let Some(catalogs) = Catalogs::start(None) else { return };
    let caller = hops::to(&catalogs.addresses());
    kill_one(catalogs, &caller);
}

#[test]
#[ignore = "needs Postgres and Consul: .ci/full"]
fn killed_instance_fails_no_idempotent_call_with_consul() {
    let Some(consul) = Consul::start() else { return };
    let Some(catalogs) = Catalogs::start(Some(&consul)) else { return };
    let caller = caller_through(&consul);
    kill_one(catalogs, &caller);
}

fn kill_one(mut catalogs: Catalogs, caller: &Process) {
    let load = Load::begin(caller.address, RATE, IDEMPOTENT);
    catalogs.is_called(0);
    catalogs.is_called(1);
    let third = RATE as usize * seconds(6) / 3;
    load.wait_for_calls(third);

    let dead = catalogs.replicas[0].address;
    let killed = Instant::now();
    catalogs.kill(0);
    eventually("the caller leaves out the instance", || hops::has_left_out(caller, dead).then_some(()));
    let took = killed.elapsed();
    println!("left out after {took:?}");
    assert!(took < Duration::from_secs(1) + SLACK, "left out after {took:?}");
    load.wait_for_calls(third);

    catalogs.start_again(0);
    load.wait_for_calls(third);
    println!("{} retries", hops::metric(caller, "mesh_peer_retries_total"));
    load.end_without_failures();
}

#[test]
fn interrupted_call_is_retried_only_if_idempotent() {
    for (kind, method, repeats) in
        [(Kind::Get, "GetTitle", 1), (Kind::Create, "CreateTitle", 1), (Kind::Delete, "DeleteTitle", 0)]
    {
        let mut instances = [hops::answering(hops::NEVER), hops::answering(hops::NEVER)];
        let caller = hops::to(&instances.each_ref().map(|instance| instance.address));
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let calling =
            runtime.spawn(async move { Client::of(caller.address).call(kind).await.map_err(|s| (s, caller)) });
        let busy = eventually("an instance is called", || {
            (0..2).find(|index| hops::attempts(&instances[*index], method) == 1)
        });
        instances[busy].signal("KILL");
        instances[busy].ended();
        let other = &instances[1 - busy];
        if repeats == 1 {
            eventually("the other instance is called", || (hops::attempts(other, method) == 1).then_some(()));
        } else {
            let (failed, _caller) = runtime.block_on(calling).expect("no panic").expect_err("the outcome is unknown");
            assert_eq!(failed.code(), Code::Unavailable, "{failed:?}");
            assert_eq!(hops::attempts(other, method), 0, "the call was repeated");
        }
    }
}

//! Going, before the process does.

use std::time::Instant;

use harness::{Consul, Grpcurl, Process, Proxy, eventually};

use super::{SLACK, answered, ask, start};
use crate::drain::half_a_call;

#[test]
#[ignore = "needs Consul: .ci/full"]
fn who_is_asked_to_end_is_gone_from_consul_before() {
    let Some(consul) = Consul::start() else { return };
    let mut catalog = start("catalog", &consul);
    let found = consul.passing("catalog", 1);
    // A call in flight holds the process for as long as its drain may take.
    let _half = half_a_call(&catalog);
    let asked = Instant::now();
    catalog.signal("TERM");
    eventually("it is gone", || consul.instances("catalog").is_empty().then_some(()));
    println!("gone after {:?}", asked.elapsed());
    assert!(asked.elapsed() < SLACK, "{:?}", asked.elapsed());
    assert!(catalog.runs(), "it was gone only when the process was");
    catalog.ended();
    let id = found[0]["Service"]["ID"].as_str().expect("an id").to_owned();
    assert!(catalog.log().lines().any(|line| line.contains("deregistered") && line.contains(&id)));
    assert!(consul.instances("catalog").is_empty(), "it has come back");
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn calls_that_are_made_while_an_instance_leaves_do_not_fail() {
    let Some(consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let (mut one, _other) = (start("catalog", &consul), start("catalog", &consul));
    consul.passing("catalog", 2);
    let artwork = start("artwork", &consul);
    eventually("both are known", || artwork.log().contains(&one.address.to_string()).then_some(()));
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| (0..20).map(|_| ask(&artwork)).collect::<Vec<_>>());
        one.signal("TERM");
        one.ended();
        let answers = calling.join().expect("calls");
        assert!(answers.iter().all(|answer| *answer == answered()), "{answers:?}");
    });
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn a_registration_in_flight_does_not_outlive_its_process() {
    let Some(consul) = Consul::start() else { return };
    let proxy = Proxy::to(consul.address);
    proxy.stall();
    let mut catalog = Process::start("catalog", &[("MESH__REGISTRY", &format!("consul://{}", proxy.address))]);
    eventually("it registers", || (proxy.heard("PUT /v1/agent/service/register") == 1).then_some(()));
    catalog.signal("TERM");
    eventually("it drains", || catalog.log().contains("draining").then_some(()));
    // The registration arrives while its process goes.
    proxy.heal();
    catalog.ended();
    assert!(consul.instances("catalog").is_empty(), "its ghost is there");
    let index = consul.index("/v1/health/service/catalog");
    assert_eq!(consul.index(&format!("/v1/health/service/catalog?index={index}&wait=2s")), index);
    assert!(consul.instances("catalog").is_empty(), "it has come back");
}

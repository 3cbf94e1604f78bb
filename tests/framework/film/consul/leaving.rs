//! Deregistration before the process ends.

use std::time::Instant;

use harness::{Consul, Grpcurl, Process, Proxy, eventually};

use super::{SLACK, answered, ask, start};
use crate::drain::half_a_call;

#[test]
#[ignore = "needs Consul: .ci/full"]
fn drain_deregisters_first() {
    let Some(consul) = Consul::start() else { return };
    let mut catalog = start("catalog", &consul);
    let found = consul.passing("catalog", 1);
    // A call in flight keeps the process running until the drain's limit.
    let _half = half_a_call(&catalog);
    let asked = Instant::now();
    catalog.signal("TERM");
    eventually("the instance is deregistered", || consul.instances("catalog").is_empty().then_some(()));
    println!("deregistered after {:?}", asked.elapsed());
    assert!(asked.elapsed() < SLACK, "{:?}", asked.elapsed());
    assert!(catalog.runs(), "the process ended before it was deregistered");
    catalog.ended();
    let id = found[0]["Service"]["ID"].as_str().expect("an id").to_owned();
    assert!(catalog.log().lines().any(|line| line.contains("deregistered") && line.contains(&id)));
    assert!(consul.instances("catalog").is_empty(), "it is registered again");
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn drain_fails_no_calls_through_consul() {
    let Some(consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let (mut one, _other) = (start("catalog", &consul), start("catalog", &consul));
    consul.passing("catalog", 2);
    let artwork = start("artwork", &consul);
    eventually("artwork finds both instances", || artwork.log().contains(&one.address.to_string()).then_some(()));
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
fn registration_in_flight_does_not_outlive_its_process() {
    let Some(consul) = Consul::start() else { return };
    let proxy = Proxy::to(consul.address);
    proxy.stall();
    let mut catalog = Process::start("catalog", &[("MESH__REGISTRY", &format!("consul://{}", proxy.address))]);
    eventually("the registration is sent", || (proxy.heard("PUT /v1/agent/service/register") == 1).then_some(()));
    catalog.signal("TERM");
    eventually("the drain starts", || catalog.log().contains("draining").then_some(()));
    // The registration arrives while its process drains.
    proxy.heal();
    catalog.ended();
    assert!(consul.instances("catalog").is_empty(), "the ended process is still registered");
    let index = consul.index("/v1/health/service/catalog");
    assert_eq!(consul.index(&format!("/v1/health/service/catalog?index={index}&wait=2s")), index);
    assert!(consul.instances("catalog").is_empty(), "the ended process is registered again");
}

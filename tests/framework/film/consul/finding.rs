//! Discovery of other services' instances.

use std::time::{Duration, Instant};

use harness::{Consul, Grpcurl, Postgres, Process, Proxy, eventually};
use serde_json::{Value, json};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{SLACK, answered, ask, enter, has_found, hop, remove, start, times};
use crate::film::calls::hops;
use crate::film::calls::load::{Kind, Load, once};

#[test]
#[ignore = "needs Consul: .ci/full"]
fn calls_reach_all_instances_and_no_deregistered_one() {
    let Some(consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let (one, other) = (start("catalog", &consul), start("catalog", &consul));
    consul.passing("catalog", 2);
    let artwork = start("artwork", &consul);
    let asked = |catalog: &Process| {
        let metrics = catalog.http("/metrics");
        let asked =
            r#"grpc_server_handling_seconds_count{grpc_service="catalog.v1.CatalogService",grpc_method="GetTitle"} "#;
        metrics.lines().any(|line| line.strip_prefix(asked).is_some_and(|count| count != "0"))
    };
    eventually("both instances are called", || {
        assert_eq!(ask(&artwork), answered());
        (asked(&one) && asked(&other)).then_some(())
    });

    let mut one = one;
    one.signal("TERM");
    one.ended();
    eventually("artwork sees the change", || {
        let instances = format!("instances\":\"{}\"", other.address);
        artwork.log().contains(&instances).then_some(())
    });
    for _ in 0..5 {
        assert_eq!(ask(&artwork), answered(), "a call went to the deregistered instance");
    }
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn service_without_instances_is_unavailable() {
    let Some(consul) = Consul::start() else { return };
    let only = hops::answering("0");
    enter(&consul, "only", only.address, &json!({}));
    let caller = hop(&consul.registry());
    once(caller.address, Kind::Get).expect("the instance is found");
    remove(&consul, "only");
    let failed = eventually("the call fails", || once(caller.address, Kind::Get).err());
    assert_eq!(failed.code(), Code::Unavailable);
    assert!(failed.message().contains("finds no instance"), "{failed:?}");
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn unhealthy_instances_are_called_while_none_passes() {
    let Some(consul) = Consul::start() else { return };
    let (one, other) = (hops::answering("0"), hops::answering("0"));
    let ids = ["one", "other"];
    for (id, address) in ids.into_iter().zip([one.address, other.address]) {
        enter(&consul, id, address, &json!({"Check": {"CheckID": id, "TTL": "1h"}}));
    }
    let turn = |id, verdict| consul.put(&format!("/v1/agent/check/{verdict}/{id}"), &Value::Null);
    let counts = || [&one, &other].map(|instance| hops::attempts(instance, "GetTitle"));
    let caller = hop(&consul.registry());
    let called = |expected: [bool; 2]| {
        eventually("only these instances are called", || {
            let before = counts();
            for _ in 0..20 {
                once(caller.address, Kind::Get).expect("an instance is called");
            }
            let after = counts();
            let called = [after[0] > before[0], after[1] > before[1]];
            (called == expected).then_some(())
        });
    };
    called([true, true]);
    turn("one", "pass");
    called([true, false]);
    turn("other", "pass");
    called([true, true]);
    turn("one", "fail");
    called([false, true]);
    turn("other", "fail");
    called([true, true]);
    assert_eq!(times(&caller.log(), "no instance in Consul passes its checks"), 2, "{}", caller.log());

    // An operator's maintenance and a deregistration still remove an instance.
    consul.put("/v1/agent/service/maintenance/one?enable=true", &Value::Null);
    called([false, true]);
    assert!(caller.log().contains("in_maintenance\":\"one\""), "{}", caller.log());
    consul.put("/v1/agent/service/maintenance/other?enable=true", &Value::Null);
    let failed = eventually("the call fails", || once(caller.address, Kind::Get).err());
    assert!(failed.message().contains("finds no instance"), "{failed:?}");
    let all = "all instances in Consul are in maintenance";
    eventually("the cause is logged", || (times(&caller.log(), all) == 2).then_some(()));
    consul.put("/v1/agent/service/maintenance/other?enable=false", &Value::Null);
    eventually("the instance is found again", || once(caller.address, Kind::Get).ok());
    remove(&consul, "other");
    eventually("the call fails", || once(caller.address, Kind::Get).err());
}

#[test]
#[ignore = "needs Consul and Postgres: .ci/full"]
fn database_that_all_replicas_share_is_named_when_it_is_away() {
    let Some(consul) = Consul::start() else { return };
    let Some(mut postgres) = Postgres::start() else { return };
    let url = postgres.database("catalog");
    let environment = [
        ("MESH__REGISTRY", &*consul.registry()),
        ("MESH__SERVICES__CATALOG__DATABASE_URL", &*url),
        // Each of the five attempts at a call waits so long: all together take less than the call has.
        ("MESH__SERVICES__CATALOG__DATABASE__WAIT", "500ms"),
    ];
    let _replicas = [(); 2].map(|()| Process::start("catalog", &environment));
    consul.passing("catalog", 2);
    let caller = hop(&consul.registry());
    once(caller.address, Kind::Get).expect("a replica is called");

    postgres.stop();
    consul.passing("catalog", 0);
    eventually("the caller sees it", || {
        (times(&caller.log(), "no instance in Consul passes its checks") > 0).then_some(())
    });
    for _ in 0..5 {
        let failed = once(caller.address, Kind::Get).expect_err("the database is away");
        assert_eq!(failed.code(), Code::Unavailable);
        let reason = failed.get_error_details().error_info().map(|info| info.reason.clone());
        assert_eq!(reason.as_deref(), Some("PEER_UNAVAILABLE"), "{failed:?}");
    }
    postgres.restart();
    eventually("a replica answers", || once(caller.address, Kind::Get).ok());
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn instance_without_an_address_is_on_its_node() {
    let Some(consul) = Consul::start() else { return };
    let only = hops::answering("0");
    enter(&consul, "only", only.address, &json!({"Address": ""}));
    assert_eq!(consul.instances("catalog")[0]["Service"]["Address"], "");
    once(hop(&consul.registry()).address, Kind::Get).expect("the instance is found");
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn weight_sets_the_share_of_calls() {
    let Some(consul) = Consul::start() else { return };
    // Each call takes so long that both instances always have some.
    let (one, other) = (hops::answering("0.2"), hops::answering("0.2"));
    let weighs = |passing: u32| json!({"Weights": {"Passing": passing, "Warning": 1}});
    let caller = hop(&consul.registry());
    for (of_one, of_other) in [(9, 1), (1, 9)] {
        enter(&consul, "one", one.address, &weighs(of_one));
        enter(&consul, "other", other.address, &weighs(of_other));
        eventually("both instances are found", || {
            has_found(&caller, one.address).and(has_found(&caller, other.address))
        });
        let asked = || [&one, &other].map(|instance| hops::attempts(instance, "GetTitle"));
        let load = Load::begin(caller.address, 100, &[Kind::Get]);
        // Until the weights apply, and earlier calls are done.
        load.wait_for_calls(100);
        let before = asked();
        load.wait_for_calls(200);
        let after = asked();
        load.end_without_failures();
        let share = (after[0] - before[0]) as f64 / (after[0] + after[1] - before[0] - before[1]) as f64;
        println!("{of_one} : {of_other} is {share:.2}");
        assert!(if of_one > of_other { (0.7..1.0).contains(&share) } else { (0.01..0.3).contains(&share) }, "{share}");
    }
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn channels_share_one_watch() {
    let Some(consul) = Consul::start() else { return };
    let proxy = Proxy::to(consul.address);
    let only = hops::answering("0");
    enter(&consul, "only", only.address, &json!({}));
    // The hop has a channel for each method.
    let caller = hop(&format!("consul://{}", proxy.address));
    let asked = || proxy.heard("GET /v1/health/service/catalog");
    eventually("the watch waits for a change", || (asked() > 1).then_some(()));
    let load = Load::begin(caller.address, 100, &[Kind::Get, Kind::Create, Kind::Delete]);
    load.wait_for_calls(150);
    load.end_without_failures();
    // One watch asks for the instances, then waits for a change; it may ask once more after a change. Three watches
    // would ask six times.
    assert!(asked() < 6, "asked {} times", asked());
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn unchanged_instance_keeps_its_connections() {
    let Some(consul) = Consul::start() else { return };
    let (stays, goes) = (hops::answering("0"), hops::answering("0"));
    let proxy = Proxy::to(stays.address);
    enter(&consul, "stays", proxy.address, &json!({}));
    let caller = hop(&consul.registry());
    once(caller.address, Kind::Get).expect("the instance is found");
    assert_eq!(proxy.accepted(), 1);
    let load = Load::begin(caller.address, 50, &[Kind::Get]);
    for _ in 0..5 {
        enter(&consul, "goes", goes.address, &json!({}));
        let before = hops::attempts(&goes, "GetTitle");
        eventually("the new instance is called", || (hops::attempts(&goes, "GetTitle") > before).then_some(()));
        remove(&consul, "goes");
        let rest = || hops::attempts(&stays, "GetTitle");
        let before = rest();
        eventually("the unchanged instance is called", || (rest() > before + 5).then_some(()));
    }
    load.end_without_failures();
    assert_eq!(proxy.accepted(), 1, "the caller connected to it again");
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn flapping_costs_little_and_hides_no_change() {
    let Some(consul) = Consul::start() else { return };
    let proxy = Proxy::to(consul.address);
    let (well, flaps) = (hops::answering("0"), hops::answering("0"));
    enter(&consul, "flaps", flaps.address, &json!({"Check": {"CheckID": "flaps", "TTL": "1h"}}));
    let caller = hop(&format!("consul://{}", proxy.address));
    let flap = || {
        for verdict in ["pass", "fail"] {
            consul.put(&format!("/v1/agent/check/{verdict}/flaps"), &Value::Null);
        }
    };
    eventually("the flapping instance is found", || {
        flap();
        has_found(&caller, flaps.address)
    });
    let asked = || proxy.heard("GET /v1/health/service/catalog");
    let (before, begin, mut flapped) = (asked(), Instant::now(), 0);
    while begin.elapsed() < Duration::from_secs(3) {
        flap();
        flapped += 2;
    }
    let rate = (asked() - before) as f64 / begin.elapsed().as_secs_f64();

    let entered = Instant::now();
    enter(&consul, "well", well.address, &json!({}));
    eventually("the new instance is found", || {
        flap();
        has_found(&caller, well.address)
    });
    println!("{flapped} changes, {rate:.0} queries a second; found after {:?}", entered.elapsed());
    assert!((1.0..60.0).contains(&rate), "{rate} queries a second");
    assert!(entered.elapsed() < SLACK, "{:?}", entered.elapsed());
}

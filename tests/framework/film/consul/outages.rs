//! An agent that starts late, restarts without its data, fails, is stopped, or is away.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use harness::{Consul, Grpcurl, Process, Proxy, eventually};
use serde_json::json;

use super::{SLACK, answered, ask, enter, has_found, hop, remove, start, times};
use crate::film::calls::hops;
use crate::film::calls::load::{Kind, Load, once};

#[test]
#[ignore = "needs Consul: .ci/full"]
fn late_agent_is_used_and_its_absence_logged_once() {
    let Some(other) = Consul::start() else { return };
    // The address is known before the agent runs.
    let ports = other.ports;
    let registry = other.registry();
    drop(other);
    let environment = [("MESH__REGISTRY", &*registry)];
    let catalog = Process::start("catalog", &environment);
    let artwork = Process::start("artwork", &environment);
    if Grpcurl::installed() {
        assert_eq!(
            ask(&artwork),
            ("Unavailable".to_owned(), "NO_ENDPOINTS".to_owned()),
            "artwork serves without an agent"
        );
    }
    let Some(consul) = Consul::start_at(ports, &json!({}), None) else { panic!("no agent starts") };
    consul.passing("catalog", 1);
    consul.passing("artwork", 1);
    if Grpcurl::installed() {
        eventually("artwork finds the catalog", || (ask(&artwork) == answered()).then_some(()));
    }
    for process in [catalog, artwork] {
        assert_eq!(times(&process.log(), "Consul is away"), 1, "{}", process.log());
        eventually("the recovery is logged", || (times(&process.log(), "Consul is back") == 1).then_some(()));
    }
}

#[test]
fn missing_agent_is_logged_once() {
    // The fake agent accepts connections, closes them, and counts them.
    let agent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let registry = format!("consul://{}", agent.local_addr().expect("an address"));
    let mut artwork = Process::start("artwork", &[("MESH__REGISTRY", &registry)]);
    for _ in 0..12 {
        drop(agent.accept().expect("artwork asks again"));
    }
    assert_eq!(times(&artwork.log(), "Consul is away"), 1, "{}", artwork.log());
    artwork.signal("TERM");
    drop(agent);
    let (status, took) = artwork.ended();
    assert_eq!(status.code(), Some(0));
    assert!(took < SLACK, "{took:?}");
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn agent_restart_registers_again() {
    let Some(mut consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let (_catalog, artwork) = (start("catalog", &consul), start("artwork", &consul));
    consul.passing("catalog", 1);
    eventually("artwork finds the catalog", || (ask(&artwork) == answered()).then_some(()));

    consul.kill();
    assert_eq!(ask(&artwork), answered(), "artwork keeps the known instances");
    eventually("the outage is logged", || (times(&artwork.log(), "Consul is away") == 1).then_some(()));
    assert_eq!(ask(&artwork), answered(), "artwork keeps the known instances");

    consul.restart();
    let begin = Instant::now();
    consul.passing("catalog", 1);
    consul.passing("artwork", 1);
    assert!(begin.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", begin.elapsed());
    eventually("artwork finds the catalog", || (ask(&artwork) == answered()).then_some(()));
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn agent_restart_under_load_fails_no_call() {
    let Some(mut consul) = Consul::start() else { return };
    let _catalog = start("catalog", &consul);
    consul.passing("catalog", 1);
    let caller = hop(&consul.registry());
    once(caller.address, Kind::Get).expect("the instance is found");
    let load = Load::begin(caller.address, 200, &[Kind::Get]);
    for outage in 1..=3 {
        load.wait_for_calls(100);
        consul.kill();
        eventually("the outage is logged", || (times(&caller.log(), "Consul is away") == outage).then_some(()));
        // The agent has lost its data. Its first answer is an empty list, until the process registers again.
        consul.restart();
        consul.passing("catalog", 1);
        load.wait_for_calls(400);
    }
    load.end_without_failures();
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn instance_that_left_during_an_outage_is_forgotten_after_it() {
    let Some(mut consul) = Consul::start() else { return };
    let only = hops::answering("0");
    enter(&consul, "only", only.address, &json!({}));
    let caller = hop(&consul.registry());
    once(caller.address, Kind::Get).expect("the instance is found");
    consul.kill();
    consul.restart();
    // The entry was made by hand, so it is gone for good.
    let begin = Instant::now();
    let failed = eventually("the call fails", || once(caller.address, Kind::Get).err());
    println!("forgotten after {:?}", begin.elapsed());
    assert!(failed.message().contains("finds no instance"), "{failed:?}");
    assert!((Duration::from_secs(3)..Duration::from_secs(6) + SLACK).contains(&begin.elapsed()));
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn stopped_agent_is_noticed_and_blocks_no_call() {
    let Some(consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let (mut catalog, artwork) = (start("catalog", &consul), start("artwork", &consul));
    consul.passing("catalog", 1);
    eventually("artwork finds the catalog", || (ask(&artwork) == answered()).then_some(()));

    // A stopped agent accepts connections and answers nothing.
    consul.signal("STOP");
    eventually("the outage is logged", || {
        assert_eq!(ask(&artwork), answered(), "artwork keeps the known instances");
        (times(&artwork.log(), "Consul is away") == 1).then_some(())
    });
    catalog.signal("TERM");
    let (status, took) = catalog.ended();
    assert_eq!(status.code(), Some(0));
    assert!(took < SLACK, "{took:?}");
    consul.signal("CONT");
    eventually("the recovery is logged", || (times(&artwork.log(), "Consul is back") == 1).then_some(()));
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn agent_restart_resets_the_watch_index() {
    let Some(mut consul) = Consul::start() else { return };
    let (old, new) = (hops::answering("0"), hops::answering("0"));
    enter(&consul, "old", old.address, &json!({}));
    let caller = hop(&consul.registry());
    eventually("the old instance is found", || has_found(&caller, old.address));
    // The service's index grows so far that the restarted agent does not reach it for long.
    eventually("the index is large", || {
        enter(&consul, "other", old.address, &json!({"Port": 1}));
        consul.passing("catalog", 2);
        remove(&consul, "other");
        consul.passing("catalog", 1);
        (consul.index("/v1/health/service/catalog") > 100).then_some(())
    });
    consul.kill();
    consul.restart();
    let start = Instant::now();
    enter(&consul, "new", new.address, &json!({}));
    eventually("the new instance is found", || has_found(&caller, new.address));
    println!("found after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", start.elapsed());
}

/// A server that gives the same answer to every request.
fn server_answering(words: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    // The thread ends with the test's process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(words.as_bytes());
        }
    });
    address
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn failing_agent_keeps_known_instances() {
    let Some(consul) = Consul::start() else { return };
    let failing = server_answering(
        "HTTP/1.1 500 Internal Server Error\r\nX-Consul-Index: 1\r\ncontent-length: 17\r\nconnection: close\r\n\r\n\
         No cluster leader",
    );
    let proxy = Proxy::to(consul.address);
    let (old, new) = (hops::answering("0"), hops::answering("0"));
    enter(&consul, "old", old.address, &json!({}));
    let caller = hop(&format!("consul://{}", proxy.address));
    once(caller.address, Kind::Get).expect("the instance is found");

    proxy.lead_to(failing);
    eventually("the outage is logged", || (times(&caller.log(), "Consul is away") == 1).then_some(()));
    for _ in 0..10 {
        once(caller.address, Kind::Get).expect("the caller keeps the known instances");
    }
    let start = Instant::now();
    proxy.lead_to(consul.address);
    enter(&consul, "new", new.address, &json!({}));
    eventually("the new instance is found", || has_found(&caller, new.address));
    println!("found after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", start.elapsed());
    eventually("the recovery is logged", || (times(&caller.log(), "Consul is back") == 1).then_some(()));
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn network_recovery_resumes_the_watch() {
    for stalls in [false, true] {
        let Some(consul) = Consul::start() else { return };
        let proxy = Proxy::to(consul.address);
        let (old, new) = (hops::answering("0"), hops::answering("0"));
        enter(&consul, "old", old.address, &json!({}));
        let caller = hop(&format!("consul://{}", proxy.address));
        once(caller.address, Kind::Get).expect("the instance is found");

        if stalls {
            proxy.stall()
        } else {
            proxy.refuse()
        }
        eventually("the outage is logged", || {
            once(caller.address, Kind::Get).expect("the caller keeps the known instances");
            (times(&caller.log(), "Consul is away") == 1).then_some(())
        });
        enter(&consul, "new", new.address, &json!({}));
        let start = Instant::now();
        proxy.heal();
        eventually("the new instance is found", || has_found(&caller, new.address));
        println!("stalls: {stalls}; found after {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", start.elapsed());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn missing_agent_costs_no_cpu() {
    /// The ticks of a second that Linux counts on every common platform.
    const TICKS: f64 = 100.0;
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr()).expect("a port");
    let registry = format!("consul://{gone}");
    let processes = [Process::start("catalog", &[("MESH__REGISTRY", &registry)]), hop(&registry)];
    for process in &processes {
        eventually("the outage is logged", || (times(&process.log(), "Consul is away") == 1).then_some(()));
        once(process.address, Kind::Get).err();
    }
    let used = || processes.each_ref().map(Process::ticks);
    let (before, begin) = (used(), Instant::now());
    eventually("time passes", || (begin.elapsed() > Duration::from_secs(8)).then_some(()));
    let shares = std::array::from_fn::<_, 2, _>(|index| (used()[index] - before[index]) as f64 / TICKS)
        .map(|seconds| seconds / begin.elapsed().as_secs_f64());
    println!("CPU in cores: {shares:?}");
    // A loop without a pause takes a whole core; a pause of a second takes 0.01, or twice that on a busy machine.
    assert!(shares.iter().all(|share| *share < 0.1), "CPU in cores: {shares:?}");
}

//! An agent that comes late, forgets, fails, stands still, or is away.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use harness::{Consul, Grpcurl, Process, Proxy, eventually};
use serde_json::json;

use super::{SLACK, answered, ask, enter, has_found, hop, remove, start, times};
use crate::film::calls::hops;
use crate::film::calls::load::{Kind, once};

#[test]
#[ignore = "needs Consul: .ci/full"]
fn an_agent_may_come_late_and_is_missed_once() {
    let Some(other) = Consul::start() else { return };
    // Where it is known that an agent can be.
    let ports = other.ports;
    let registry = other.registry();
    drop(other);
    let environment = [("MESH__REGISTRY", &*registry)];
    let catalog = Process::start("catalog", &environment);
    let artwork = Process::start("artwork", &environment);
    if Grpcurl::installed() {
        assert_eq!(ask(&artwork), ("Unavailable".to_owned(), "NO_ENDPOINTS".to_owned()), "it serves without");
    }
    let Some(consul) = Consul::start_at(ports, &json!({}), None) else { panic!("no agent starts") };
    consul.passing("catalog", 1);
    consul.passing("artwork", 1);
    if Grpcurl::installed() {
        eventually("the catalog is found", || (ask(&artwork) == answered()).then_some(()));
    }
    for process in [catalog, artwork] {
        assert_eq!(times(&process.log(), "Consul is away"), 1, "{}", process.log());
        eventually("it says so", || (times(&process.log(), "Consul is back") == 1).then_some(()));
    }
}

#[test]
fn an_agent_that_is_never_there_is_told_of_once() {
    // It takes connections and closes them, and counts how often it was asked.
    let agent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let registry = format!("consul://{}", agent.local_addr().expect("an address"));
    let mut artwork = Process::start("artwork", &[("MESH__REGISTRY", &registry)]);
    for _ in 0..12 {
        drop(agent.accept().expect("it is asked again"));
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
fn an_agent_that_has_forgotten_is_told_again() {
    let Some(mut consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let (_catalog, artwork) = (start("catalog", &consul), start("artwork", &consul));
    consul.passing("catalog", 1);
    eventually("the catalog is found", || (ask(&artwork) == answered()).then_some(()));

    consul.kill();
    assert_eq!(ask(&artwork), answered(), "what was known goes on");
    eventually("it is missed", || (times(&artwork.log(), "Consul is away") == 1).then_some(()));
    assert_eq!(ask(&artwork), answered(), "what was known goes on");

    consul.restart();
    let begin = Instant::now();
    consul.passing("catalog", 1);
    consul.passing("artwork", 1);
    assert!(begin.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", begin.elapsed());
    eventually("the catalog is found", || (ask(&artwork) == answered()).then_some(()));
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn an_agent_that_stands_still_is_noticed_and_holds_nobody() {
    let Some(consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let (mut catalog, artwork) = (start("catalog", &consul), start("artwork", &consul));
    consul.passing("catalog", 1);
    eventually("the catalog is found", || (ask(&artwork) == answered()).then_some(()));

    // It accepts connections, and answers nothing.
    consul.signal("STOP");
    eventually("it is noticed", || {
        assert_eq!(ask(&artwork), answered(), "what was known goes on");
        (times(&artwork.log(), "Consul is away") == 1).then_some(())
    });
    catalog.signal("TERM");
    let (status, took) = catalog.ended();
    assert_eq!(status.code(), Some(0));
    assert!(took < SLACK, "{took:?}");
    consul.signal("CONT");
    eventually("it is back", || (times(&artwork.log(), "Consul is back") == 1).then_some(()));
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn what_is_new_is_seen_soon_after_a_restart() {
    let Some(mut consul) = Consul::start() else { return };
    let (old, new) = (hops::answering("0"), hops::answering("0"));
    enter(&consul, "old", old.address, &json!({}));
    let caller = hop(&consul.registry());
    eventually("it is found", || has_found(&caller, old.address));
    // The index it waits behind is one that the next agent will not reach for long. It is that of the service.
    eventually("there has been much to wait for", || {
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
    eventually("it is found", || has_found(&caller, new.address));
    println!("seen after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", start.elapsed());
}

/// Says the same to everybody.
fn server_saying(words: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    // Ends with the test's process.
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
fn an_agent_that_fails_changes_nothing() {
    let Some(consul) = Consul::start() else { return };
    let failing = server_saying(
        "HTTP/1.1 500 Internal Server Error\r\nX-Consul-Index: 1\r\ncontent-length: 17\r\nconnection: close\r\n\r\n\
         No cluster leader",
    );
    let proxy = Proxy::to(consul.address);
    let (old, new) = (hops::answering("0"), hops::answering("0"));
    enter(&consul, "old", old.address, &json!({}));
    let caller = hop(&format!("consul://{}", proxy.address));
    once(caller.address, Kind::Get).expect("it is found");

    proxy.lead_to(failing);
    eventually("it is missed", || (times(&caller.log(), "Consul is away") == 1).then_some(()));
    for _ in 0..10 {
        once(caller.address, Kind::Get).expect("what was known goes on");
    }
    let start = Instant::now();
    proxy.lead_to(consul.address);
    enter(&consul, "new", new.address, &json!({}));
    eventually("what is new is found", || has_found(&caller, new.address));
    println!("seen after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", start.elapsed());
    eventually("it is back", || (times(&caller.log(), "Consul is back") == 1).then_some(()));
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn a_network_that_comes_back_is_enough() {
    for stalls in [false, true] {
        let Some(consul) = Consul::start() else { return };
        let proxy = Proxy::to(consul.address);
        let (old, new) = (hops::answering("0"), hops::answering("0"));
        enter(&consul, "old", old.address, &json!({}));
        let caller = hop(&format!("consul://{}", proxy.address));
        once(caller.address, Kind::Get).expect("it is found");

        if stalls {
            proxy.stall()
        } else {
            proxy.refuse()
        }
        eventually("it is missed", || {
            once(caller.address, Kind::Get).expect("what was known goes on");
            (times(&caller.log(), "Consul is away") == 1).then_some(())
        });
        enter(&consul, "new", new.address, &json!({}));
        let start = Instant::now();
        proxy.heal();
        eventually("what is new is found", || has_found(&caller, new.address));
        println!("stalls: {stalls}; seen after {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", start.elapsed());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_agent_that_is_away_costs_nothing() {
    /// How much Linux counts a second, everywhere that people use.
    const TICKS: f64 = 100.0;
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr()).expect("a port");
    let registry = format!("consul://{gone}");
    let processes = [Process::start("catalog", &[("MESH__REGISTRY", &registry)]), hop(&registry)];
    for process in &processes {
        eventually("it is missed", || (times(&process.log(), "Consul is away") == 1).then_some(()));
        once(process.address, Kind::Get).err();
    }
    let used = || processes.each_ref().map(Process::ticks);
    let (before, begin) = (used(), Instant::now());
    eventually("time passes", || (begin.elapsed() > Duration::from_secs(8)).then_some(()));
    let shares = std::array::from_fn::<_, 2, _>(|index| (used()[index] - before[index]) as f64 / TICKS)
        .map(|seconds| seconds / begin.elapsed().as_secs_f64());
    println!("shares of a core: {shares:?}");
    assert!(shares.iter().all(|share| *share < 0.01), "shares of a core: {shares:?}");
}

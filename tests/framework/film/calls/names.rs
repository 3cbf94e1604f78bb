//! Peers at host names, without Consul: names with several addresses, that change, and that nobody knows.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Process, eventually, find_program, skip};
use tempfile::TempDir;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::hops;
use super::load::{Kind, Load, once};

/// The hosts that a caller knows, in a mount namespace of its own. Needs no root.
struct Hosts(TempDir);

impl Hosts {
    /// Without user namespaces it prints a note and returns `None`.
    fn new() -> Option<Self> {
        let allowed = find_program("unshare", &[]).map(|unshare| Command::new(unshare).args(["-rm", "true"]).output());
        if !allowed.is_some_and(|run| run.is_ok_and(|run| run.status.success())) {
            skip("unshare with user namespaces", "util-linux has it, and the kernel must allow it");
            return None;
        }
        let hosts = Self(tempfile::tempdir().expect("a temporary folder"));
        // No name server: what the hosts file does not have cannot be resolved.
        std::fs::write(hosts.file("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
            .expect("a file");
        hosts.set("catalog.mesh.test", &[]);
        Some(hosts)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn set(&self, name: &str, addresses: &[SocketAddr]) {
        let lines: String = addresses.iter().map(|address| format!("{} {name}\n", address.ip())).collect();
        // In place: the mounted file stays the same one.
        std::fs::write(self.file("hosts"), lines).expect("a file");
    }

    /// A hop that knows these hosts.
    fn caller(&self, registry: &str) -> Process {
        let mut onlooker = Command::new("unshare");
        let script = "mount --bind $HOSTS /etc/hosts && mount --bind $RESOLV_CONF /etc/resolv.conf && exec $0";
        onlooker.args(["-rm", "sh", "-c", script]);
        onlooker.env("HOSTS", self.file("hosts")).env("RESOLV_CONF", self.file("resolv.conf"));
        Process::start_under_with(onlooker, "hop", &[("MESH__REGISTRY", registry)])
    }
}

/// A hop that answers at this loopback address. Port 0 picks a free one.
pub(super) fn answering_at(ip: &str, port: u16) -> Process {
    let listen = format!("{ip}:{port}");
    Process::start("hop", &[("HOP_DOES", "answer"), ("MESH__LISTEN", &listen)])
}

fn called(instance: &Process) -> Option<()> {
    let before = hops::attempts(instance, "GetTitle");
    eventually("it is called", || (hops::attempts(instance, "GetTitle") > before).then_some(()));
    Some(())
}

#[test]
fn static_address_may_be_a_host_name() {
    let peer = hops::answering("0");
    let address = format!("localhost:{}", peer.address.port());
    // Both notations of a list, and an instance that is away: all addresses are tried.
    let caller = Process::start(
        "hop",
        &[("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &format!("127.0.0.1:1, {address}"))],
    );
    for _ in 0..10 {
        once(caller.address, Kind::Get).expect("the name is resolved");
    }
    let caller = Process::start("hop", &[("MESH__REGISTRY", &format!("dns://{address}"))]);
    once(caller.address, Kind::Get).expect("the name is resolved");
}

#[test]
fn name_that_cannot_be_resolved_stops_no_start() {
    let environment = [("MESH__REGISTRY", "dns"), ("MESH__STATIC__CATALOG", "nowhere.invalid:50051")];
    let caller = Process::start("hop", &environment);
    let failed = once(caller.address, Kind::Get).expect_err("there is no such host");
    assert_eq!(failed.code(), Code::Unavailable);
    assert_eq!(failed.get_details_error_info().expect("a reason").reason, "NO_ENDPOINTS");
    assert!(!failed.message().contains("nowhere.invalid"), "the log of the service has the name: {failed:?}");
    let expected = "there is no instance of `catalog`: the host name `nowhere.invalid` cannot be resolved";
    let log = eventually("the log has the cause", || Some(caller.log()).filter(|log| log.contains(expected)));
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("cannot be resolved: ")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("WARN"), "{log}");
    // No name, and no port for the pattern: the warning says what to set.
    let caller = Process::start("hop", &[("MESH__REGISTRY", "dns")]);
    once(caller.address, Kind::Get).expect_err("there is no address");
    let expected = "its address is not configured";
    eventually("the log has the cause", || caller.log().contains(expected).then_some(()));
    assert!(caller.log().contains("set `static.catalog`"), "{}", caller.log());
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs user namespaces: .ci/full"]
fn name_has_all_of_its_addresses_and_is_looked_up_again() {
    let Some(hosts) = Hosts::new() else { return };
    let name = "catalog.mesh.test";
    let one = answering_at("127.0.0.2", 0);
    let port = one.address.port();
    let [other, later, last] = ["127.0.0.3", "127.0.0.4", "127.0.0.5"].map(|ip| answering_at(ip, port));
    hosts.set(name, &[one.address, other.address]);
    let caller = hosts.caller(&format!("dns://{{service}}.mesh.test:{port}"));
    let load = Load::begin(caller.address, 100, &[Kind::Get]);
    called(&one).and(called(&other)).expect("both instances are called");

    hosts.set(name, &[one.address, other.address, later.address]);
    called(&later).expect("the third instance is called");
    hosts.set(name, &[later.address]);
    eventually("the name has one address", || (!caller.http("/metrics").contains("127.0.0.2")).then_some(()));
    hosts.set(name, &[]);
    eventually("the failure is logged", || caller.log().contains("using its last addresses").then_some(()));
    called(&later).expect("the last addresses are kept");
    load.end_without_failures();

    hosts.set(name, &[last.address]);
    later.kill();
    let begin = Instant::now();
    eventually("the new instance is called", || once(caller.address, Kind::Get).ok());
    println!("found after {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

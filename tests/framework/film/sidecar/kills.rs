//! Somebody dies under load: the app, the sidecar, or the agent. The caller is the outbound side of another sidecar.

use std::net::SocketAddr;

use harness::{Consul, Postgres, Process, eventually, uuid};

use super::{beside, catalog, exchange};
use crate::film::calls::load::{Kind, Load, seconds};

/// Calls that may be repeated.
const IDEMPOTENT: &[Kind] = &[Kind::Get, Kind::Get, Kind::Get, Kind::Get, Kind::Create];
/// All methods, also those that must not be repeated.
const ALL: &[Kind] = &[Kind::Get, Kind::Get, Kind::Create, Kind::CreateAndDelete];
/// Calls a second.
const RATE: u32 = 100;

const DATABASE: &str = "MESH__SERVICES__CATALOG__DATABASE_URL";

fn database() -> Option<String> {
    Some(Postgres::shared()?.database(&format!("catalog_{}", uuid().replace('-', ""))))
}

/// Waits until a read of the load was answered by the process with this admin listener.
fn is_called(who: &str, admin: SocketAddr) {
    eventually(&format!("{who} is called"), || {
        let metrics = exchange(admin, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut reads = metrics
            .lines()
            .filter(|line| line.starts_with("grpc_server_handled_total") && line.contains(r#"grpc_method="GetTitle""#));
        reads.any(|line| !line.ends_with(" 0")).then_some(())
    });
}

/// A catalog and the sidecar beside it.
struct Replica {
    app: Process,
    sidecar: Process,
}

impl Replica {
    fn start(database: &str, registry: &str) -> Self {
        let app = Process::start("catalog", &[(DATABASE, database)]);
        let sidecar = beside(app.address, "catalog", &[("MESH__REGISTRY", registry)]);
        Self { app, sidecar }
    }

    fn kill_app(&mut self) {
        self.app.signal("KILL");
        self.app.ended();
    }

    fn start_app(&mut self, database: &str) {
        self.app = Process::start("catalog", &[(DATABASE, database), ("MESH__LISTEN", &self.app.address.to_string())]);
    }

    fn kill_sidecar(&mut self) {
        self.sidecar.signal("KILL");
        self.sidecar.ended();
    }

    fn start_sidecar(&mut self, registry: &str) {
        let listen = self.sidecar.address.to_string();
        self.sidecar = beside(self.app.address, "catalog", &[("MESH__REGISTRY", registry), ("MESH__LISTEN", &listen)]);
    }
}

/// The outbound side of a sidecar that calls these catalogs, and the sidecar.
fn caller(registry: &str, catalogs: &[SocketAddr]) -> (Process, SocketAddr) {
    let catalogs: Vec<_> = catalogs.iter().map(SocketAddr::to_string).collect();
    let (unused, _) = super::app(|_| Vec::new());
    let catalogs = catalogs.join(",");
    let more =
        [("MESH__SIDECAR__PROTOCOL", "http1"), ("MESH__REGISTRY", registry), ("MESH__STATIC__CATALOG", &*catalogs)];
    let caller = beside(unused, "shop", &more);
    let outbound = caller.listener("outbound");
    (caller, outbound)
}

fn kill_in_turn(registry: &str, mut consul: Option<Consul>) {
    let Some(database) = database() else { return };
    let mut replicas = [0, 1].map(|_| Replica::start(&database, registry));
    if let Some(consul) = &consul {
        consul.passing("catalog", 2);
    }
    // With Consul they have no effect.
    let (caller, outbound) = caller(registry, &replicas.each_ref().map(|replica| replica.sidecar.address));
    let part = RATE as usize * seconds(5) / 5;
    let load = Load::begin(outbound, RATE, IDEMPOTENT);
    for replica in &replicas {
        is_called("the app", replica.app.address);
    }
    load.wait_for_calls(part);
    replicas[0].kill_app();
    load.wait_for_calls(part);
    replicas[0].start_app(&database);
    let ready =
        |sidecar: &Process| sidecar.grpcurl().call("grpc.health.v1.Health/Check", &serde_json::json!({})).text();
    eventually("the app is back", || ready(&replicas[0].sidecar).contains("\"SERVING\"").then_some(()));
    load.wait_for_calls(part);
    replicas[1].kill_sidecar();
    load.wait_for_calls(part);
    replicas[1].start_sidecar(registry);
    if let Some(consul) = consul.take() {
        consul.passing("catalog", 2);
        // The known instances outlive the agent.
        drop(consul);
    }
    load.wait_for_calls(part);
    load.end_without_failures();
    drop(caller);
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn killed_app_or_sidecar_fails_no_idempotent_call() {
    kill_in_turn("static", None);
}

#[test]
#[ignore = "needs Postgres and Consul: .ci/full"]
fn killed_app_sidecar_or_agent_fails_no_idempotent_call_with_consul() {
    let Some(consul) = Consul::start() else { return };
    let registry = consul.registry();
    kill_in_turn(&registry, Some(consul));
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn rolling_restart_of_sidecars_fails_no_call() {
    let Some(database) = database() else { return };
    let start = |listen: &str| {
        Process::start_sidecar("catalog", &[(DATABASE, &database), ("MESH__LISTEN", listen)], Some(&catalog()))
    };
    let mut replicas = [0, 1].map(|_| start("127.0.0.1:0"));
    let (_caller, outbound) = caller("static", &replicas.each_ref().map(|replica| replica.address));
    let load = Load::begin(outbound, RATE, ALL);
    for index in (0..seconds(4)).map(|round| round % 2) {
        load.wait_for_calls(RATE as usize / 2);
        replicas[index].signal("TERM");
        assert_eq!(replicas[index].ended().0.code(), Some(0), "{}", replicas[index].log());
        replicas[index] = start(&replicas[index].address.to_string());
        let admin = replicas[index].listener("admin");
        is_called("the replica", admin);
    }
    load.wait_for_calls(RATE as usize / 2);
    load.end_without_failures();
}

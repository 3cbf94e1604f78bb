//! The same behaviour in every topology.

use harness::{Consul, Grpcurl, Process, Secured, Session, output_in};

use super::{System, rents};

const SERVICES: [&str; 3] = ["library", "billing", "catalog"];

/// Library, billing and catalog, each in a process of its own with static addresses.
pub(super) struct Processes {
    pub(super) catalog: Process,
    pub(super) billing: Process,
    pub(super) library: Process,
}

impl Processes {
    pub(super) fn start() -> Self {
        let (catalog, billing) = (Process::start("catalog", &[]), Process::start("billing", &[]));
        let library = library_beside(&catalog.address.to_string(), &billing.address.to_string());
        Self { catalog, billing, library }
    }

    pub(super) fn system<'a>(&self, [catalog, library]: &'a [Grpcurl; 2]) -> System<'a> {
        System { catalog, library, charges: database(&self.billing, "billing") }
    }

    pub(super) fn grpcurls(&self) -> [Grpcurl; 2] {
        [self.catalog.grpcurl(), self.library.grpcurl()]
    }
}

pub(super) fn library_beside(catalog: &str, billing: &str) -> Process {
    Process::start("library", &environment(catalog, billing))
}

/// What library needs to find its peers.
pub(super) fn environment<'a>(catalog: &'a str, billing: &'a str) -> [(&'static str, &'a str); 3] {
    [("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", catalog), ("MESH__STATIC__BILLING", billing)]
}

/// The database of a service in a process.
pub(super) fn database(process: &Process, service: &str) -> Session {
    Session::open(&format!("sqlite://{}/data/{service}.db", process.folder.path().display()))
}

#[test]
fn rents_in_one_process() {
    if Grpcurl::installed() {
        let monolith = Process::start("monolith", &[]);
        let grpcurl = monolith.grpcurl();
        rents(System { catalog: &grpcurl, library: &grpcurl, charges: database(&monolith, "billing") });
    }
}

#[test]
fn rents_in_three_processes_with_static_addresses() {
    if Grpcurl::installed() {
        let processes = Processes::start();
        rents(processes.system(&processes.grpcurls()));
    }
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn rents_in_three_processes_with_consul() {
    let Some(consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let registry = [("MESH__REGISTRY", &*consul.registry())];
    let [library, billing, catalog] = SERVICES.map(|name| Process::start(name, &registry));
    let processes = Processes { catalog, billing, library };
    rents(processes.system(&processes.grpcurls()));
}

/// Rents for many viewers, as an operator with a certificate of the mesh.
fn rents_secured(mesh: &Secured, processes: &Processes) {
    let operator = mesh.token("olga", &["catalog.write", "mesh.operator"]);
    rents(processes.system(&[&processes.catalog, &processes.library].map(|process| mesh.grpcurl(process, &operator))));
}

#[test]
fn rents_with_tls_and_tokens_with_static_addresses() {
    if Grpcurl::installed() {
        let mesh = Secured::new(&SERVICES);
        let [catalog, billing] = ["catalog", "billing"].map(|name| mesh.start(name, &[]));
        let [at_catalog, at_billing] = [&catalog, &billing].map(|process| process.address.to_string());
        let library = mesh.start("library", &environment(&at_catalog, &at_billing));
        rents_secured(&mesh, &Processes { catalog, billing, library });
    }
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn rents_with_tls_and_tokens_with_consul() {
    let Some(consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let mesh = Secured::new(&SERVICES);
    let [library, billing, catalog] = SERVICES.map(|name| mesh.start_in_consul(name, &consul));
    rents_secured(&mesh, &Processes { catalog, billing, library });
}

#[test]
fn example_client_rents_a_title_and_shows_one_that_is_declined() {
    let monolith = Process::start("monolith", &[]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = output_in(&folder, "rent", &[&format!("http://{}", monolith.address)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = [
        "reserve    done",
        "charge     done",
        "grant      done",
        "rented     ",
        "charge     undone",
        "reserve    undone",
    ];
    let mut rest = &*text;
    for line in lines {
        rest = rest.split_once(line).unwrap_or_else(|| panic!("no `{line}` in its place: {text}")).1;
    }
    assert!(rest.contains("undone     the card was declined"), "{text}");
}

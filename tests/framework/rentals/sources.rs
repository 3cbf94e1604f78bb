//! `mesh events list` with several services that publish.

use harness::film::create;
use harness::{Consul, Grpcurl, Process};

use crate::film::operations_cli::{line, mesh};

#[test]
#[ignore = "needs Consul: .ci/full"]
fn events_of_all_services_are_found_through_consul() {
    let Some(consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let target = ["--consul", &consul.address.to_string()];
    let registry = consul.registry();
    let processes =
        ["catalog", "artwork", "billing"].map(|name| Process::start(name, &[("MESH__REGISTRY", &registry)]));
    for name in ["catalog", "artwork", "billing"] {
        consul.passing(name, 1);
    }
    create(&processes[0].grpcurl(), "Metropolis");
    let table = mesh(target, &["events", "list"]).answer();
    assert_eq!((line(&table, "catalog")[1], line(&table, "billing")[1]), ("1", "0"));
    assert_eq!(table.lines().count(), 3, "artwork publishes nothing: {table}");
}

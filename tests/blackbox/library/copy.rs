//! The copy of the catalog while that changes, stops and is restored from a backup.

use std::path::Path;
use std::process::Command;

use harness::film::create;
use harness::{Grpcurl, Process, eventually, uuid};
use serde_json::json;

use super::topologies::Processes;
use super::{copied, request};

#[test]
fn library_rents_what_it_knows_while_the_catalog_is_away() {
    if !Grpcurl::installed() {
        return;
    }
    let processes = Processes::start();
    let grpcurls = processes.grpcurls();
    let system = processes.system(&grpcurls);
    let title_id = system.title();
    let Processes { catalog, library, billing: _billing } = processes;
    catalog.kill();

    let done = harness::film::wait(system.library, &system.start(&request(&title_id)));
    assert_eq!(done["response"]["rental"]["state"], "RENTAL_STATE_GRANTED", "{done}");
    assert!(library.http("/readyz").starts_with("HTTP/1.1 200"), "a source that is away leaves its follower ready");
    // The metrics show how old the copy may be.
    let labels = r#"{service="library",source="catalog"} "#;
    let metric = |name: &str| {
        let page = library.http("/metrics");
        let value = page.split_once(&format!("{name}{labels}"))?.1.lines().next()?;
        Some(value.parse::<f64>().expect("a number"))
    };
    eventually("the silence grows", || metric("mesh_follow_last_heard_seconds").filter(|seconds| *seconds > 2.0));
    assert_eq!(metric("mesh_follow_lag_events"), Some(0.0));
}

fn copy_folder(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").arg(from.join("data")).arg(to).status().expect("cp runs");
    assert!(copied.success());
}

/// The restored catalog has earlier revisions than the copy, and titles that it lacks.
#[test]
fn copy_equals_a_catalog_that_was_restored_from_a_backup() {
    if !Grpcurl::installed() {
        return;
    }
    let processes = Processes::start();
    let grpcurls = processes.grpcurls();
    let system = processes.system(&grpcurls);
    let kept = system.title();
    let Processes { catalog, library: _library, billing: _billing } = processes;
    let address = catalog.address.to_string();
    let at = [("MESH__LISTEN", &*address)];
    let folder = catalog.kill();
    let backup = tempfile::tempdir().expect("a folder");
    copy_folder(folder.path(), backup.path());

    let catalog = Process::start_in(folder, "catalog", &at);
    let update = json!({"title": {"title_id": kept, "revision": "1", "price_cents": "499"}});
    system.catalog.call("catalog.v1.CatalogService/UpdateTitle", &update).json();
    copied(system.library, &kept, "2");
    let lost = system.title();
    drop(catalog);
    let catalog = Process::start_in(backup, "catalog", &at);
    assert_eq!(copied(system.library, &kept, "1")["priceCents"], "399");
    let removed = || system.library.call("library.v1.LibraryService/GetTitle", &json!({"title_id": lost})).failed();
    eventually("the lost title is swept", || removed().then_some(()));
    // It goes on behind the backup.
    let title_id = create(system.catalog, "Metropolis")["titleId"].as_str().expect("an id").to_owned();
    copied(system.library, &title_id, "1");
    drop(catalog);
}

#[test]
fn charge_without_a_rental_is_reported() {
    if !Grpcurl::installed() {
        return;
    }
    let processes = Processes::start();
    let grpcurls = processes.grpcurls();
    let system = processes.system(&grpcurls);
    let done = harness::film::wait(system.library, &system.start(&request(&system.title())));
    assert!(done["response"].is_object(), "{done}");
    let charge_id = uuid();
    let charge = json!({"request_id": charge_id, "card": "test", "amount_cents": 399});
    processes.billing.grpcurl().call("billing.v1.BillingService/Charge", &charge).json();
    let warnings = || {
        let log = processes.library.log();
        let warnings = log.lines().filter(|line| line.contains("a charge belongs to no rental"));
        warnings.map(str::to_owned).collect::<Vec<_>>()
    };
    let warnings = eventually("library reports the charge", || Some(warnings()).filter(|found| !found.is_empty()));
    assert!(warnings.len() == 1 && warnings[0].contains(&charge_id), "{warnings:?}");
}

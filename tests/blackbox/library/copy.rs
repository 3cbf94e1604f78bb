//! The copy of the catalog while that changes, stops and is restored from a backup.

use std::path::Path;
use std::process::Command;

use harness::film::create;
use harness::{Grpcurl, Process, eventually, uuid};
use serde_json::json;

use super::topologies::{Processes, database, environment};
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

/// The charges that belong to no rental, as docs/operate/faults.md lists them.
fn orphans(library: &Process) -> Vec<String> {
    database(library, "library").texts("SELECT charge_id FROM orphan_charges")
}

fn warnings(library: &Process) -> Vec<String> {
    let log = library.log();
    log.lines().filter(|line| line.contains("a charge belongs to no rental")).map(str::to_owned).collect()
}

#[test]
fn charge_without_a_rental_is_reported_and_kept_until_it_is_refunded() {
    if !Grpcurl::installed() {
        return;
    }
    let processes = Processes::start();
    let grpcurls = processes.grpcurls();
    let system = processes.system(&grpcurls);
    let done = harness::film::wait(system.library, &system.start(&request(&system.title())));
    assert!(done["response"].is_object(), "{done}");
    let (charge_id, billing) = (uuid(), processes.billing.grpcurl());
    let charge = json!({"request_id": charge_id, "card": "test", "amount_cents": 399});
    billing.call("billing.v1.BillingService/Charge", &charge).json();
    let found = || Some(orphans(&processes.library)).filter(|found| !found.is_empty());
    assert_eq!(eventually("library keeps the charge", found), [&*charge_id]);
    let warnings = warnings(&processes.library);
    assert!(warnings.len() == 1 && warnings[0].contains(&charge_id), "{warnings:?}");
    billing.call("billing.v1.BillingService/Refund", &json!({"request_id": charge_id})).json();
    eventually("it is refunded", || orphans(&processes.library).is_empty().then_some(()));
}

/// A library that was restored has forgotten a rental, and billing has not forgotten its charge.
#[test]
fn charge_of_a_rental_that_a_restore_has_lost_is_reported() {
    if !Grpcurl::installed() {
        return;
    }
    let processes = Processes::start();
    let grpcurls = processes.grpcurls();
    let mut system = processes.system(&grpcurls);
    let title_id = system.title();
    let kept = harness::film::wait(system.library, &system.start(&request(&title_id)));
    assert!(kept["response"].is_object(), "{kept}");
    let Processes { catalog, library, billing } = processes;
    let (library_at, catalog_at) = (library.address.to_string(), catalog.address.to_string());
    let billing_at = billing.address.to_string();
    let settings = [&environment(&catalog_at, &billing_at)[..], &[("MESH__LISTEN", &library_at)]].concat();
    let folder = library.kill();
    let backup = tempfile::tempdir().expect("a folder");
    copy_folder(folder.path(), backup.path());

    let library = Process::start_in(folder, "library", &settings);
    let lost = harness::film::wait(system.library, &system.start(&request(&title_id)));
    assert!(lost["response"].is_object() && orphans(&library).is_empty(), "{lost}");
    library.kill();
    let library = Process::start_in(backup, "library", &settings);
    let found = || Some(orphans(&library)).filter(|found| !found.is_empty());
    let found = eventually("library reports the charge", found);
    let charges = system.charges.texts("SELECT charge_id FROM charges ORDER BY create_time");
    assert_eq!((charges.len(), found), (2, vec![charges[1].clone()]), "the charge of the lost rental alone");
    assert!(warnings(&library).len() == 1 && warnings(&library)[0].contains(&charges[1]));
}

//! The invariants of docs/ARCHITECTURE.md that the source tree shows.

use std::path::{Path, PathBuf};

use harness::root;

/// Every file of the project below `folder` whose path ends in `ending`, without build output and downloads.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "templates", "data", "out"].contains(&name.as_ref()) {
                found.extend(files(&path, ending));
            }
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found
}

fn dependencies(manifest: &Path) -> Vec<String> {
    let manifest: toml::Table = std::fs::read_to_string(manifest).expect("a manifest").parse().expect("TOML");
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    let tables = tables.iter().filter_map(|table| manifest.get(*table)?.as_table());
    tables.flat_map(|table| table.keys().cloned()).collect()
}

/// The processes that run or answer for services and are none.
const NO_SERVICES: [&str; 2] = ["monolith", "gateway"];

fn services() -> Vec<String> {
    let folders = std::fs::read_dir(root().join("services")).expect("services").flatten();
    folders
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn services_do_not_depend_on_each_other() {
    let services = services();
    assert!(services.contains(&"monolith".to_owned()));
    for service in services.iter().filter(|service| !NO_SERVICES.contains(&service.as_str())) {
        let others = dependencies(&root().join("services").join(service).join("Cargo.toml"));
        let others: Vec<_> = others.iter().filter(|name| services.contains(name)).collect();
        assert!(others.is_empty(), "`{service}` depends on {others:?}; a service reaches peers through their contract");
    }
}

/// A crate that two services share would be the place of rules that belong to the owner of the data.
#[test]
fn services_share_no_crate_but_mesh_and_contracts() {
    let workspace: toml::Table =
        std::fs::read_to_string(root().join("Cargo.toml")).expect("a file").parse().expect("TOML");
    let crates = workspace["workspace"]["dependencies"].as_table().expect("dependencies");
    let own: Vec<_> = crates.iter().filter(|(_, source)| source.get("path").is_some()).map(|(name, _)| name).collect();
    assert!(own.len() > 10, "{own:?}");
    for service in services() {
        let manifest = std::fs::read_to_string(root().join("services").join(&service).join("Cargo.toml"));
        let manifest: toml::Table = manifest.expect("a manifest").parse().expect("TOML");
        let used = manifest["dependencies"].as_table().expect("dependencies").keys();
        for name in used.filter(|name| own.contains(name) && !["mesh", "contracts"].contains(&name.as_str())) {
            let is_run = service == "monolith" && services().contains(name);
            assert!(is_run, "`{service}` depends on `{name}`: a rule that two services need is behind a contract");
        }
    }
}

/// A service without data has no rules: they belong to the owners of the data.
#[test]
fn services_without_a_database_have_no_domain() {
    for service in services() {
        let folder = root().join("services").join(&service);
        let owns_data = folder.join("migrations").is_dir();
        assert!(owns_data || !folder.join("src/domain.rs").exists(), "`{service}` owns no data, and has rules");
        let names_its_database = files(&folder.join("src"), ".rs").iter().any(|file| {
            let text = std::fs::read_to_string(file).expect("a file");
            text.contains("resources.store()") || text.contains("sqlx")
        });
        assert!(owns_data || !names_its_database, "`{service}` uses a database that it does not own");
    }
}

#[test]
fn monolith_runs_every_service() {
    let inside = dependencies(&root().join("services/monolith/Cargo.toml"));
    for service in services().iter().filter(|service| !NO_SERVICES.contains(&service.as_str())) {
        assert!(inside.contains(service), "the monolith does not run `{service}`");
    }
}

/// The services with one port, as a line for each port.
fn clashes(ports: &[(String, u16)]) -> Vec<String> {
    let mut by_port = std::collections::BTreeMap::<u16, Vec<&str>>::new();
    for (service, port) in ports {
        by_port.entry(*port).or_default().push(service);
    }
    let shared = by_port.into_iter().filter(|(_, services)| services.len() > 1);
    shared.map(|(port, services)| format!("{port}: {}", services.join(", "))).collect()
}

/// Two branches may add services with one port.
#[test]
fn services_have_ports_of_their_own() {
    let mut ports = Vec::new();
    for service in services() {
        let source = std::fs::read_to_string(root().join("services").join(&service).join("src/lib.rs"));
        let port = source.ok().and_then(|text| text.split_once(".port(")?.1.split_once(')')?.0.parse().ok());
        ports.extend(port.map(|port| (service, port)));
    }
    let clashes = clashes(&ports);
    assert!(
        clashes.is_empty(),
        "services have one port: change `.port(…)` of one in its src/lib.rs\n{}",
        clashes.join("\n")
    );
}

#[test]
fn services_with_one_port_are_named() {
    let ports = [("a", 50061), ("b", 50062), ("c", 50061)].map(|(name, port)| (name.to_owned(), port));
    assert_eq!(clashes(&ports), ["50061: a, c"]);
    assert!(clashes(&ports[..2]).is_empty());
}

#[test]
fn contracts_are_only_under_proto() {
    for file in files(root(), ".proto") {
        assert!(file.starts_with(root().join("proto")), "{} is not under proto/", file.display());
    }
}

#[test]
fn domains_use_neither_wire_nor_database() {
    for file in files(&root().join("services"), "/domain.rs") {
        let text = std::fs::read_to_string(&file).expect("a file");
        for other in ["contracts::", "tonic::", "sqlx::", "prost"] {
            assert!(!text.contains(other), "{} uses {other}", file.display());
        }
    }
}

#[test]
fn service_main_only_runs_it() {
    // The monolith has one line for each service.
    let names_a_service = |line: &&str| line.trim_end().ends_with("::service(),");
    for file in files(&root().join("services"), "/main.rs") {
        let text = std::fs::read_to_string(&file).expect("a file");
        let lines = text.lines().filter(|line| !names_a_service(line)).count();
        assert!(
            lines < 15,
            "{} has {lines} lines: a main only runs its service; move the rest into the library",
            file.display()
        );
    }
}

/// With `SELECT *`, a column that a migration adds changes the result of a statement that running replicas have
/// prepared, and Postgres refuses it.
#[test]
fn sql_names_its_columns() {
    let folders = ["services", "crates", "templates"].map(|folder| root().join(folder));
    let sources: Vec<_> =
        folders.iter().flat_map(|folder| [files(folder, "rs"), files(folder, "sql")].concat()).collect();
    assert!(sources.len() > 20, "only {sources:?}");
    for path in sources {
        let text = std::fs::read_to_string(&path).expect("a source");
        for stars in ["SELECT *", "RETURNING *", ".* FROM"] {
            assert!(!text.contains(stars), "{} has `{stars}`: name the columns", path.display());
        }
    }
}

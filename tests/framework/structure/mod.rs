//! Dependencies point downwards (the ladder of docs/ARCHITECTURE.md): crates, the modules of a crate, and files.
//!
//! - [`LADDER`] says which crates of this workspace a crate may depend on.
//! - [`MODULES`] says which modules of its crate a module may use, and [`SERVICE`] the same of every service.
//! - Files of a crate form no circle.

mod graph;
mod manifest;
mod modules;
mod source;
mod tables;
mod tokens;

use std::collections::BTreeSet;
use std::path::Path;

use graph::Edge;
use manifest::Manifest;
use modules::Crate;
use tables::{FOR_SERVICES, LADDER, MODULES, SERVICE};

/// The root files of a package's crates.
const ROOTS: &[&str] =
    &["src/lib.rs", "src/main.rs", "src/bin/*.rs", "examples/*.rs", "tests/*.rs", "tests/*/main.rs", "framework.rs"];

#[test]
fn crates_depend_downwards() {
    let manifests = packages().into_iter().filter_map(|package| {
        let file = below(&package, "Cargo.toml");
        read(&file).map(|text| Manifest::read(&file, &text))
    });
    fail_with(&misplaced_dependencies(&manifests.collect::<Vec<_>>()));
}

#[test]
fn ladder_lists_what_a_crate_may_use_above_it() {
    for (at, (name, may_use)) in LADDER.iter().enumerate() {
        for used in *may_use {
            let above = LADDER[..at].iter().any(|(other, _)| other == used);
            assert!(above, "LADDER: {used} must stand above {name}");
        }
    }
}

#[test]
fn modules_use_only_what_they_may() {
    let mut failures = Vec::new();
    for package in packages() {
        let rows = MODULES.iter().find(|(name, _)| *name == package).map(|(_, rows)| *rows);
        for read in crates(&package, &["src/lib.rs", "src/main.rs"]) {
            match rows {
                Some(rows) => {
                    failures.extend([modules_without_a_place(&read, rows), misplaced_uses(&read, rows)].concat())
                }
                None if package.contains("services/") => failures.extend(misplaced_uses(&read, SERVICE)),
                None => {}
            }
        }
    }
    fail_with(&failures);
}

#[test]
fn files_form_no_circle() {
    let mut failures = Vec::new();
    let mut files = 0;
    for package in packages() {
        for read in crates(&package, ROOTS) {
            files += read.files.len();
            failures.extend(read.circles().iter().map(|circle| show_circle(&read, circle)));
        }
    }
    assert!(files > 0, "no file was read");
    fail_with(&failures);
}

#[test]
fn sidecar_links_no_database() {
    let mut tree = std::process::Command::new(env!("CARGO"));
    tree.args(["tree", "--package=sidecar", "--edges=normal", "--prefix=none", "--locked", "--offline"]);
    let tree = tree.current_dir(root()).output().expect("cargo");
    let packages = String::from_utf8(tree.stdout).expect("UTF-8");
    assert!(packages.contains("mesh-rpc v"), "{}", String::from_utf8_lossy(&tree.stderr));
    let databases = ["sqlx", "libsqlite3", "mesh-store", "tokio-postgres"];
    let found: Vec<_> = packages.lines().filter(|line| databases.iter().any(|name| line.starts_with(name))).collect();
    assert!(found.is_empty(), "{found:?}");
}

fn fail_with(failures: &[String]) {
    assert!(failures.is_empty(), "dependencies must point downwards:\n{}", failures.join("\n"));
}

/// Dependencies that neither [`LADDER`] nor [`FOR_SERVICES`] allows, and crates that [`LADDER`] does not list.
fn misplaced_dependencies(manifests: &[Manifest]) -> Vec<String> {
    let within = |manifest: &Manifest, folder: &str| manifest.file.starts_with(folder);
    let services = manifests.iter().filter(|manifest| within(manifest, "services/"));
    let services: Vec<_> = services.map(|manifest| &*manifest.package).collect();
    let mut failures = Vec::new();
    for manifest in manifests {
        let Manifest { file, package, .. } = manifest;
        let is_service = services.contains(&&**package);
        let may_use = match LADDER.iter().find(|(name, _)| name == package) {
            Some((_, may_use)) => may_use.to_vec(),
            None if package == "monolith" => [FOR_SERVICES, &services].concat(),
            None if is_service => FOR_SERVICES.to_vec(),
            None if within(manifest, "crates/") => {
                failures.push(format!(
                    "{file}: LADDER does not list {package}: add it with the crates of this workspace that it may use"
                ));
                continue;
            }
            None => continue,
        };
        for used in &manifest.dependencies {
            let name = &*used.name;
            let is_ours = manifests.iter().any(|other| other.package == name);
            let free = used.dev && !(is_service && services.contains(&name));
            if is_ours && !free && !may_use.contains(&name) {
                failures.push(format!("{file}:{}: {package} may not depend on {name}", used.line));
            }
        }
    }
    failures
}

/// The place of a module, or of what stands in it: its row, and its name in the row.
fn place<'a>(rows: &[&'a str], path: &[String]) -> Option<(usize, &'a str)> {
    let places = rows.iter().enumerate().flat_map(|(row, names)| names.split(' ').map(move |name| (row, name)));
    let encloses =
        |name: &str| name.split("::").count() <= path.len() && name.split("::").zip(path).all(|(a, b)| a == b);
    places.filter(|(_, name)| encloses(name)).max_by_key(|(_, name)| name.len())
}

fn misplaced_uses(read: &Crate, rows: &[&str]) -> Vec<String> {
    let mut failures = Vec::new();
    for edge in read.edges() {
        let Some(user) = place(rows, &read.files[edge.from].module) else { continue };
        // What the line says, and where a re-export leads.
        for path in [&edge.written, &read.files[edge.to].module] {
            if let Some(used) = place(rows, path).filter(|used| *used != user && used.0 >= user.0) {
                failures.push(format!("{}: {} may not use {}", read.show(&edge), user.1, used.1));
                break;
            }
        }
    }
    failures
}

fn modules_without_a_place(read: &Crate, rows: &[&str]) -> Vec<String> {
    let lost = read.files.iter().filter(|file| !file.module.is_empty() && place(rows, &file.module).is_none());
    lost.map(|file| format!("{}: MODULES has no place for {}: add it to a row", file.name, file.module.join("::")))
        .collect()
}

fn show_circle(read: &Crate, circle: &[Edge]) -> String {
    let files: BTreeSet<_> = circle.iter().map(|edge| edge.from).collect();
    let mut shown = format!("{} files form a circle:", files.len());
    for edge in circle {
        shown += &format!("\n  {} leads to {}", read.show(edge), read.files[edge.to].name);
    }
    shown
}

/// The folder of this workspace.
fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().find(|folder| folder.join("Cargo.lock").is_file()).expect("a workspace has a Cargo.lock")
}

fn read(file: &str) -> Option<String> {
    std::fs::read_to_string(root().join(file)).ok()
}

fn below(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// What matches `pattern` in the tree, in order. `*` is any name, or the part of one before its ending.
fn matches(pattern: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::from([String::new()]);
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let names = |folder: &String| -> Vec<String> {
            let Some(ending) = part.strip_prefix('*') else { return vec![below(folder, part)] };
            let entries = std::fs::read_dir(root().join(folder)).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
            names.filter(|name| name.ends_with(ending)).map(|name| below(folder, &name)).collect()
        };
        found = found.iter().flat_map(names).collect();
    }
    found.retain(|path| root().join(path).exists());
    found
}

/// The folders of this workspace's packages, with the root itself as "", and of the services in templates/.
fn packages() -> Vec<String> {
    let manifests =
        ["Cargo.toml", "bench/Cargo.toml", "crates/*/Cargo.toml", "services/*/Cargo.toml", "tests/*/Cargo.toml"];
    let folder = |manifest: String| manifest.trim_end_matches("Cargo.toml").trim_end_matches('/').to_owned();
    let packages = manifests.into_iter().flat_map(matches).map(folder);
    packages.chain(matches("templates/*/services/*")).collect()
}

/// The crates of a package whose root files match `roots`.
fn crates(package: &str, roots: &[&str]) -> Vec<Crate> {
    let mut folders = vec![package.to_owned()];
    // Any other template is the template `service` with files that replace some of its files.
    if let ["templates", kind, rest @ ..] = &*package.split('/').collect::<Vec<_>>()
        && *kind != "service"
    {
        folders.push(format!("templates/service/{}", rest.join("/")));
    }
    let files = roots.iter().flat_map(|root| matches(&below(package, root)));
    let roots = files.map(|file| file[package.len()..].trim_start_matches('/').to_owned());
    roots.map(|file| Crate::read(&folders, &file, &read)).collect()
}

#[test]
fn dependency_against_the_ladder_is_named_with_its_line() {
    let manifest = |file: &str, used: &str| {
        let name = file.split('/').nth(1).expect("a folder and a package");
        Manifest::read(file, &format!("[package]\nname = \"{name}\"\n{used}"))
    };
    let manifests = [
        manifest(
            "crates/mesh-rpc/Cargo.toml",
            "[dependencies]\ntokio = \"1\"\nmesh-runtime = \"1\"\nmesh-store = \"1\"",
        ),
        manifest("crates/mesh-store/Cargo.toml", "[dev-dependencies]\nmesh = \"1\""),
        manifest("crates/mesh-runtime/Cargo.toml", ""),
        manifest("crates/mesh-new/Cargo.toml", ""),
        manifest("crates/mesh/Cargo.toml", ""),
        manifest("services/a/Cargo.toml", "[dependencies]\nmesh = \"1\"\n[dev-dependencies]\nmonolith = \"1\"\n"),
        manifest("services/monolith/Cargo.toml", "[dependencies]\na = \"1\""),
    ];
    let expected = [
        "crates/mesh-rpc/Cargo.toml:6: mesh-rpc may not depend on mesh-store",
        "crates/mesh-new/Cargo.toml: LADDER does not list mesh-new: add it with the crates of this workspace that it may use",
        "services/a/Cargo.toml:6: a may not depend on monolith",
    ];
    assert_eq!(misplaced_dependencies(&manifests), expected);
}

#[test]
fn upward_use_is_named_with_its_line() {
    let files = [
        ("it/src/lib.rs", "mod call; mod client; mod server; mod other;\npub use server::Server;"),
        ("it/src/call.rs", "mod context;\n\nuse crate::server::{\n    Call,\n};"),
        ("it/src/call/context.rs", "use crate::Server;\nuse super::Call;\n// use crate::server::Server;\n"),
        ("it/src/client.rs", "use crate::call::Call; use crate::other::Other; fn f() { crate::server::g() }"),
        ("it/src/server.rs", "pub use crate::call::Call;\npub struct Server;"),
        ("it/src/other.rs", "use crate::server::Server;"),
    ];
    let load = |name: &str| files.iter().find(|(file, _)| *file == name).map(|(_, text)| (*text).to_owned());
    let read = Crate::read(&["it".to_owned()], "src/lib.rs", &load);
    let rows = ["call", "client server"];
    let expected = [
        "it/src/call.rs:4: `use crate::server::Call`: call may not use server",
        "it/src/call/context.rs:1: `use crate::Server`: call may not use server",
        "it/src/client.rs:1: `crate::server::g`: client may not use server",
    ];
    assert_eq!(misplaced_uses(&read, &rows), expected);
    assert_eq!(misplaced_uses(&read, &["server", "call client"]).len(), 2, "server and client use call");
    assert_eq!(
        modules_without_a_place(&read, &rows),
        ["it/src/other.rs: MODULES has no place for other: add it to a row"]
    );
}

//! `scripts/seed`: development data, sent by the contracts.

use std::process::Command;

use harness::{Grpcurl, Postgres, Process, root};

/// The services that have a seed.
fn seeded() -> Vec<String> {
    let services = std::fs::read_dir(root().join("services")).expect("services").flatten();
    let seeded = services.filter(|service| service.path().join("seed").is_file());
    seeded.map(|service| service.file_name().to_string_lossy().into_owned()).collect()
}

/// Runs a script of the project from another folder; standard output, or standard error.
fn run(script: &str, service: &str, variables: &[(&str, &str)]) -> Result<String, String> {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let mut run = Command::new("bash");
    run.arg(root().join("scripts").join(script)).arg(service).current_dir(elsewhere.path());
    let output = run.envs(variables.iter().copied()).output().expect("bash runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// What the script prints of the calls that it has sent: `sent 3 of 3`.
fn sent(service: &str, process: &Process, more: &[(&str, &str)]) -> String {
    let address = process.address.to_string();
    let printed = run("seed", service, &[&[("ADDRESS", &*address)], more].concat());
    let printed = printed.unwrap_or_else(|error| panic!("{error}"));
    let words = printed.strip_prefix(&format!("{service}: ")).and_then(|rest| rest.split_once(" calls to "));
    words.unwrap_or_else(|| panic!("{printed}")).0.to_owned()
}

/// `sent 3 of 3`, or `sent 0 of 3`.
fn all_of(sent: &str) -> bool {
    let words: Vec<_> = sent.split(' ').collect();
    words[1] == words[3]
}

/// The contract takes each line. A second run repeats the same calls, which have no further effect.
#[test]
fn seeds_are_valid_and_may_be_sent_twice() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    for service in seeded() {
        for _ in 0..2 {
            assert!(all_of(&sent(&service, &process, &[])), "{service}");
        }
    }
    let address = process.address.to_string();
    let refused = |service| run("seed", service, &[("ADDRESS", &address)]).expect_err("it is refused");
    assert!(refused("monolith").contains("`monolith` has no seed: add services/monolith/seed"));
    assert!(refused("größe").contains("there is no service `größe`"));
}

#[test]
fn seed_sends_what_is_new_until_the_data_is_reset() {
    if !Grpcurl::installed() {
        return;
    }
    for service in seeded() {
        let mut process = Process::start("monolith", &[]);
        let data = process.folder.path().join("data");
        let folder = [("MESH__DATA_DIR", data.to_str().expect("UTF-8"))];
        assert!(all_of(&sent(&service, &process, &folder)), "{service}");
        assert!(sent(&service, &process, &folder).starts_with("sent 0 of "), "{service}");
        let held = run("reset-data", &service, &folder).expect_err("the process holds it");
        assert!(held.contains("stop it first"), "{held}");
        process.signal("TERM");
        process.ended();
        let kept = process.folder_left();
        let removed = run("reset-data", &service, &folder).expect("it is removed");
        assert!(removed.contains(&format!("{service}.db.seeded\n")), "{removed}");
        let process = Process::start_in(kept, "monolith", &[]);
        assert!(all_of(&sent(&service, &process, &folder)), "{service}");
    }
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn reset_creates_an_empty_database_in_postgres() {
    if !Grpcurl::installed() {
        return;
    }
    let Some(postgres) = Postgres::start() else { return };
    for service in seeded() {
        let folder = tempfile::tempdir().expect("a folder");
        // The database does not exist yet.
        let url = postgres.url("seeds").replace("seeds", "{service}");
        let variables = [("MESH__DATABASE__URL", &*url), ("MESH__DATA_DIR", folder.path().to_str().expect("UTF-8"))];
        let reset = || run("reset-data", &service, &variables);
        let created = format!("created the database {service} of {service}, empty\n");
        assert_eq!(reset(), Ok(created.clone()));
        let mut process = Process::start(&service, &variables[..1]);
        assert!(all_of(&sent(&service, &process, &variables[1..])), "{service}");
        let held = reset().expect_err("the process holds it");
        assert!(held.contains("open connections: stop the process first"), "{held}");
        process.signal("TERM");
        process.ended();
        assert!(reset().expect("it is empty").ends_with(&created));
        let process = Process::start(&service, &variables[..1]);
        assert!(all_of(&sent(&service, &process, &variables[1..])), "{service}");
        let elsewhere = [("MESH__DATABASE__URL", "postgres://db.example/{service}"), variables[1]];
        let removed = run("reset-data", &service, &elsewhere).expect("the database elsewhere stays");
        assert!(!removed.contains("created"), "{removed}");
    }
}

//! The life of a sidecar with its app.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Grpcurl, Process, command, eventually, free_address, output};
use serde_json::json;
use tonic::Code;

use super::{catalog, failure};

const LIST: &str = "catalog.v1.CatalogService/ListTitles";

/// A sidecar of the catalog, as a command.
fn sidecar(app: &str, more: &[(&str, &str)]) -> Command {
    let mut sidecar = command("sidecar");
    sidecar.env("MESH__SIDECAR__SERVICE", "catalog").env("MESH__SIDECAR__OUTBOUND", "127.0.0.1:0");
    sidecar.env("MESH__LISTEN", "127.0.0.1:0").envs(more.iter().copied()).args(["--", "sh", "-c", app]);
    sidecar
}

/// Whether a process runs. One that has ended may wait to be collected.
fn runs(id: &str) -> bool {
    let state = Command::new("ps").args(["-o", "stat=", "-p", id]).output().expect("ps runs").stdout;
    !state.is_empty() && !state.starts_with(b"Z")
}

#[test]
fn calls_are_refused_with_starting_until_the_app_is_healthy() {
    if !Grpcurl::installed() {
        return;
    }
    let (folder, listen) = (tempfile::tempdir().expect("a folder"), free_address());
    // The app may call others from its first line.
    let late =
        format!("curl -s $SIDECAR_OUTBOUND >/dev/null || exit 9; until [ -e go ]; do sleep 0.05; done; {}", catalog());
    let mut sidecar = sidecar(&late, &[("MESH__LISTEN", &listen.to_string())]);
    let mut sidecar = sidecar.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let list = || Grpcurl::to(listen).call(LIST, &json!({}));
    eventually("it listens", || std::net::TcpStream::connect(listen).ok().map(drop));
    assert_eq!(failure(listen), (Code::Unavailable, "STARTING".to_owned()));

    std::fs::write(folder.path().join("go"), "").unwrap();
    eventually("the app is called", || (!list().failed()).then_some(()));
    let ended = Command::new("kill").args(["-TERM", &sidecar.id().to_string()]).status().unwrap();
    assert!(ended.success());
    assert_eq!(sidecar.wait().unwrap().code(), Some(0));
}

#[test]
fn sidecar_ends_with_the_exit_code_of_its_app() {
    let app = command("catalog").get_program().display().to_string();
    for (end, code) in [("wait $p", 0), ("wait $p; exit 7", 7)] {
        let app = format!("{app} --listen $SIDECAR_APP & p=$!; trap 'kill $p; {end}' TERM; wait $p; {end}");
        let mut sidecar = Process::start_sidecar("catalog", &[], Some(&app));
        sidecar.signal("TERM");
        assert_eq!(sidecar.ended().0.code(), Some(code), "{}", sidecar.log());
        assert!(sidecar.log().contains("drained"), "{}", sidecar.log());
    }
}

#[test]
fn app_that_ignores_the_signal_is_killed_at_the_limit() {
    let app = format!("trap '' TERM; sleep 60 & {} & wait; wait; wait", catalog().replace("exec", ""));
    let mut sidecar = Process::start_sidecar("catalog", &[("MESH__DRAIN_LIMIT", "1s")], Some(&app));
    sidecar.signal("TERM");
    let (status, took) = sidecar.ended();
    assert_eq!(status.code(), Some(1), "{}", sidecar.log());
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert!(sidecar.log().contains("the app is killed"), "{}", sidecar.log());
}

#[test]
fn app_that_dies_takes_the_sidecar_with_it() {
    let app = format!("{} & echo $! > pid; wait $!; exit 3", catalog().replace("exec", ""));
    let mut sidecar = Process::start_sidecar("catalog", &[], Some(&app));
    let id = std::fs::read_to_string(sidecar.folder.path().join("pid")).unwrap();
    assert!(Command::new("kill").args(["-KILL", id.trim()]).status().unwrap().success());
    let (status, took) = sidecar.ended();
    assert_eq!(status.code(), Some(1), "{}", sidecar.log());
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(sidecar.log().contains("the app has ended, exit status: 3"), "{}", sidecar.log());
}

#[test]
fn standard_input_of_the_app_ends_with_a_sidecar_that_is_killed() {
    // The harness ends the app by that.
    let sidecar = Process::start_sidecar("catalog", &[], Some(&format!("echo $$ > pid; {}", catalog())));
    let folder = sidecar.kill();
    let id = std::fs::read_to_string(folder.path().join("pid")).unwrap();
    eventually("the app notices", || (!runs(id.trim())).then_some(()));
}

#[test]
fn processes_of_the_app_end_with_it() {
    let app = format!("{} & echo $! > pid; wait", catalog().replace("exec", ""));
    let mut sidecar = Process::start_sidecar("catalog", &[], Some(&app));
    let id = std::fs::read_to_string(sidecar.folder.path().join("pid")).unwrap();
    sidecar.signal("TERM");
    assert_eq!(sidecar.ended().0.code(), Some(0), "{}", sidecar.log());
    eventually("the catalog ends with the shell that started it", || (!runs(id.trim())).then_some(()));
}

#[test]
fn sidecar_that_cannot_start_says_why_in_one_line() {
    let service = "--set=sidecar.service=catalog";
    let outbound = "--set=sidecar.outbound=127.0.0.1:0";
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at_taken = format!("--set=sidecar.outbound={}", taken.local_addr().unwrap());
    let app = "--set=sidecar.app=127.0.0.1:1";
    let stranger = format!("--set=sidecar.app={}", taken.local_addr().unwrap());
    for (arguments, code, words) in [
        (&["--listen=127.0.0.1:0", service, outbound, "--", "./no-such-program"][..], 1, "cannot start the app"),
        (&["--listen=127.0.0.1:0", service, outbound, &stranger, "--", "true"], 1, "another program listens at"),
        (&["--listen=127.0.0.1:0", service, app, &at_taken], 1, "sidecar.outbound or MESH__SIDECAR__OUTBOUND"),
        (&[app], 2, "`sidecar.service` is not set"),
        (&[service], 2, "`sidecar.app` is not set"),
        (&[service, "--set=sidecar.app=0.0.0.0:1"], 2, "an address of loopback"),
        (&[service, app, "--set=sidecar.outbound=10.0.0.1:7000"], 2, "an address of loopback"),
        (&[service, app, "--set=sidecar.outbound=127.0.0.1:1"], 2, "two listeners"),
        (&[service, app, "--set=sidecar.protocol=http2"], 2, "must be grpc or http1"),
        (&[service, app, "--set=sidecar.health=/healthz"], 2, "is a path"),
        (&[service, app, "--set=sidecar.protocol=http1", "--set=sidecar.health=grpc"], 2, "set it to tcp or to a path"),
        (&["--set=sidecar.service=catalogue", app], 2, "no contract has a package"),
        (&["--set=sidecar.service=Catalog", app], 2, "a name such as"),
        (&[service, app, "--set=sidecar.contracts=missing.binpb"], 2, "cannot be used, missing.binpb"),
        (&[service, app, "--set=sidecar.contracts=broken.binpb"], 2, "protoc --descriptor_set_out"),
    ] {
        let started = Instant::now();
        let failed = output("sidecar", arguments, |folder| {
            std::fs::write(folder.join("broken.binpb"), "no set").unwrap();
        });
        let errors = String::from_utf8(failed.stderr).unwrap();
        assert_eq!(failed.status.code(), Some(code), "{arguments:?}: {errors}");
        let lines: Vec<_> = errors.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(lines.len() == 1 && lines[0].contains(words), "{arguments:?}: {errors}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }
    let all = output(
        "sidecar",
        &["--set=sidecar.protocol=x", "--set=sidecar.outbound=x", "--set=sidecar.nonsense=x"],
        |_| (),
    );
    assert_eq!(String::from_utf8(all.stderr).unwrap().lines().count(), 5, "all mistakes at once");
}

#[test]
fn sidecar_reads_the_file_of_all_processes() {
    let mesh_toml = std::fs::read_to_string(harness::root().join("mesh.toml")).unwrap();
    let checked = output(
        "sidecar",
        &["--check-config", "--set=sidecar.service=catalog", "--set=sidecar.app=127.0.0.1:1"],
        |folder| {
            std::fs::write(folder.join("mesh.toml"), mesh_toml).unwrap();
        },
    );
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn keys_of_the_sidecar_are_documented() {
    let printed = output(
        "sidecar",
        &["--set=xxxxxxxxxxxx=1", "--set=sidecar.service=catalog", "--set=sidecar.app=127.0.0.1:1"],
        |_| (),
    );
    let printed = String::from_utf8(printed.stderr).unwrap();
    let known = printed.trim().rsplit_once("the keys are ").expect("the keys").1;
    let documented = std::fs::read_to_string(harness::root().join("docs/operate/configuration.md")).unwrap();
    for key in known.split(", ").filter(|key| key.starts_with("sidecar.")) {
        assert!(documented.contains(&format!("| `{key}` |")), "docs/operate/configuration.md does not have {key}");
    }
    let rows = documented.lines().filter(|line| line.starts_with("| `sidecar.")).count();
    assert_eq!(rows, known.split(", ").filter(|key| key.starts_with("sidecar.")).count());
}

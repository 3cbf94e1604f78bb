//! `mesh up`, which scripts/up calls: every service in a process of its own, found through an agent of its own.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;

use harness::{Consul, Grpcurl, LIMIT, command, eventually, forget_cargo, root};
use tempfile::TempDir;

/// A folder that looks like a project to it.
fn project(services: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for service in services {
        std::fs::create_dir_all(folder.path().join("services").join(service)).expect("a folder");
    }
    folder
}

fn up(folder: &TempDir, options: &[&str]) -> Command {
    let mut path = std::ffi::OsString::from(root().join(".tools/bin"));
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = command("mesh");
    command.arg("up").args(options).current_dir(folder.path()).env("PATH", path);
    for service in ["CATALOG", "ARTWORK"] {
        command.env(format!("MESH__SERVICES__{service}__LISTEN"), "127.0.0.1:0");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// One that runs, with the places that it has told; asked to end when it is dropped.
struct Up {
    child: Child,
    places: BTreeMap<String, SocketAddr>,
    _folder: TempDir,
}

impl Up {
    fn start() -> Self {
        let folder = project(&["artwork", "catalog", "monolith"]);
        let mut child = up(&folder, &["--consul-port=0"]).spawn().expect("mesh starts");
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("its output"));
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        let mut up = Self { child, places: BTreeMap::new(), _folder: folder };
        // What it says of itself: `up      |   catalog  127.0.0.1:50051`.
        loop {
            let line =
                lines.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("it does not get ready: {}", up.complaints()));
            let Some(said) = line.strip_prefix("up ") else { continue };
            if said.contains("Ctrl-C") {
                return up;
            }
            if let [_, name, place] = said.split_whitespace().collect::<Vec<_>>()[..]
                && let Ok(place) = place.parse()
            {
                up.places.insert(name.to_owned(), place);
            }
        }
    }

    fn complaints(&mut self) -> String {
        let _ = self.child.kill();
        let mut complaints = String::new();
        let _ = self.child.stderr.take().expect("its errors").read_to_string(&mut complaints);
        complaints
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(kill.expect("kill runs").success());
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal("TERM");
            let _ = self.child.wait();
        }
    }
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn up_runs_everything_and_leaves_nothing_behind() {
    // Also where Consul is missing: this says so, and there is nothing to test.
    if Consul::start().is_none() {
        return;
    }
    for signal in ["INT", "TERM"] {
        let mut up = Up::start();
        assert_eq!(up.places.keys().collect::<Vec<_>>(), ["artwork", "catalog", "consul"]);
        if Grpcurl::installed() {
            let mut demo = Command::new(root().join("scripts/demo"));
            forget_cargo(&mut demo);
            demo.env("CATALOG", up.places["catalog"].to_string()).env("ARTWORK", up.places["artwork"].to_string());
            let told: Output = demo.output().expect("bash runs");
            let said = String::from_utf8_lossy(&told.stdout);
            assert!(told.status.success(), "{said}{}", String::from_utf8_lossy(&told.stderr));
            assert!(said.contains("state      SUCCEEDED"), "{said}");
        }
        up.signal(signal);
        let status = eventually("it ends", || up.child.try_wait().expect("a child"));
        assert_eq!(status.code(), Some(0), "{signal}");
        for (name, place) in &up.places {
            assert!(TcpStream::connect(place).is_err(), "{name} still runs after {signal}");
        }
    }
}

/// The one line that it complains with.
fn refusal(mut up: Command) -> String {
    let mut refused = up.spawn().expect("mesh starts");
    eventually("it refuses", || refused.try_wait().expect("a child"));
    let refused = refused.wait_with_output().expect("its output");
    let complaints = String::from_utf8(refused.stderr).expect("UTF-8");
    assert_eq!(refused.status.code(), Some(1), "{complaints}");
    assert_eq!(complaints.lines().count(), 1, "{complaints}");
    complaints
}

#[test]
fn up_says_in_one_line_what_it_cannot_start() {
    let [nowhere, unbuilt, folder] = [project(&[]), project(&["unbuilt"]), project(&["catalog"])];
    assert!(refusal(up(&nowhere, &[])).contains("scripts/up"));
    assert!(refusal(up(&unbuilt, &[])).contains("`unbuilt` is not built"));
    let mut without = up(&folder, &[]);
    without.env("PATH", nowhere.path());
    assert!(refusal(without).contains("scripts/tools consul"));
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn up_says_in_one_line_that_a_port_is_taken() {
    if Consul::start().is_none() {
        return;
    }
    let folder = project(&["catalog"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address");
    assert!(refusal(up(&folder, &[&format!("--consul-port={}", taken.port())])).contains("--consul-port"));
    let mut clash = up(&folder, &["--consul-port=0"]);
    clash.env("MESH__SERVICES__CATALOG__LISTEN", taken.to_string());
    assert!(refusal(clash).contains("`catalog` has ended"));
}

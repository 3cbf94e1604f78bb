//! `mesh up`, which scripts/up calls: every service in a process of its own, found through a Consul agent.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;

use harness::{Consul, Curl, Grpcurl, LIMIT, command, eventually, forget_cargo, root};
use tempfile::TempDir;

/// A folder that `mesh up` takes for a project.
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
    // That of the gateway.
    command.env("MESH__LISTEN", "127.0.0.1:0");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running `mesh up` with the addresses it printed. It gets SIGTERM when this is dropped.
struct Up {
    child: Child,
    places: BTreeMap<String, SocketAddr>,
    folder: TempDir,
}

impl Up {
    fn start(options: &[&str], environment: &[(&str, &str)]) -> Self {
        let folder = project(&["artwork", "catalog", "gateway", "monolith"]);
        let mut command = up(&folder, &[&["--consul-port=0"], options].concat());
        let mut child = command.envs(environment.iter().copied()).spawn().expect("mesh starts");
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("its output"));
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        let mut up = Self { child, places: BTreeMap::new(), folder };
        // Its own lines have this form: `up      |   catalog  127.0.0.1:50051`.
        loop {
            let line =
                lines.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("`mesh up` does not get ready: {}", up.errors()));
            let Some(text) = line.strip_prefix("up ") else { continue };
            if text.contains("Ctrl-C") {
                return up;
            }
            if let [_, name, place] = text.split_whitespace().collect::<Vec<_>>()[..]
                && let Ok(place) = place.parse()
            {
                up.places.insert(name.to_owned(), place);
            }
        }
    }

    fn errors(&mut self) -> String {
        let _ = self.child.kill();
        let mut errors = String::new();
        let _ = self.child.stderr.take().expect("its errors").read_to_string(&mut errors);
        errors
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
fn up_starts_every_service_and_stops_them_all() {
    // Without an installed Consul, `start` prints a note.
    if Consul::start().is_none() {
        return;
    }
    for signal in ["INT", "TERM"] {
        let mut up = Up::start(&[], &[]);
        assert_eq!(up.places.keys().collect::<Vec<_>>(), ["artwork", "catalog", "consul", "gateway"]);
        if Grpcurl::installed() {
            let mut demo = Command::new(root().join("scripts/demo"));
            forget_cargo(&mut demo);
            demo.env("CATALOG", up.places["catalog"].to_string()).env("ARTWORK", up.places["artwork"].to_string());
            let output: Output = demo.output().expect("bash runs");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
            assert!(text.contains("state      SUCCEEDED"), "{text}");
        }
        up.signal(signal);
        let status = eventually("`mesh up` exits", || up.child.try_wait().expect("a child"));
        assert_eq!(status.code(), Some(0), "{signal}");
        for (name, place) in &up.places {
            assert!(TcpStream::connect(place).is_err(), "{name} still runs after {signal}");
        }
    }
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn up_with_tls_has_processes_that_authenticate_each_other() {
    if Consul::start().is_none() || !Curl::installed() {
        return;
    }
    let up = Up::start(&["--tls"], &[("MESH__AUTH__MODE", "required")]);
    let folder = up.folder.path();
    super::users::work_belongs_to_its_user(&Curl::to(up.places["gateway"]), folder);
    // `mesh` has a certificate, too, and sees the work of all with an operator's token.
    let consul = up.places["consul"].to_string();
    let list = |arguments: &[&str], token: &str| {
        let mut mesh = command("mesh");
        mesh.current_dir(folder).args(["--consul", &consul, "operations", "list"]).args(arguments);
        let output = mesh.env("MESH_TOKEN", token).output().expect("mesh runs");
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let operator = harness::token(folder, "olga", &["mesh.operator"], "1h");
    let (listed, text) = list(&["--tls"], &operator);
    assert!(listed && text.contains("artwork/"), "{text}");
    let (listed, text) = list(&["--tls"], &harness::token(folder, "bob", &[], "1h"));
    assert!(!text.contains("artwork/"), "{listed}: {text}");
    let (listed, text) = list(&[], &operator);
    assert!(!listed && text.contains("--tls"), "{text}");
    let plain = Curl::to(up.places["catalog"]).get("/metrics");
    assert!(plain.status == 400 && plain.text().contains("speaks TLS"), "{plain:?}");
}

/// The one line of a `mesh up` that refuses to start.
fn refusal(mut up: Command) -> String {
    let mut refused = up.spawn().expect("mesh starts");
    eventually("`mesh up` exits", || refused.try_wait().expect("a child"));
    let refused = refused.wait_with_output().expect("its output");
    let errors = String::from_utf8(refused.stderr).expect("UTF-8");
    assert_eq!(refused.status.code(), Some(1), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    errors
}

#[test]
fn up_refuses_in_one_line_without_binaries_or_consul() {
    let [nowhere, unbuilt, folder] = [project(&[]), project(&["unbuilt"]), project(&["catalog"])];
    assert!(refusal(up(&nowhere, &[])).contains("scripts/up"));
    assert!(refusal(up(&unbuilt, &[])).contains("`unbuilt` is not built"));
    let mut without = up(&folder, &[]);
    without.env("PATH", nowhere.path());
    assert!(refusal(without).contains("scripts/tools consul"));
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn up_refuses_in_one_line_on_a_taken_port() {
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

//! `mesh up`, which scripts/up calls: every service in a process of its own, found through a Consul agent.

use std::net::TcpStream;
use std::process::{Command, Output};

use harness::{Consul, Curl, Grpcurl, Up, command, eventually, forget_cargo, root};

/// A running `mesh up` of these services, the gateway, and the monolith, which it leaves out.
fn start(options: &[&str], environment: &[(&str, &str)]) -> Up {
    Up::start(Up::project(&["artwork", "catalog", "gateway", "monolith"]), options, environment)
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn up_starts_every_service_and_stops_them_all() {
    // Without an installed Consul, `start` prints a note.
    if Consul::start().is_none() {
        return;
    }
    for signal in ["INT", "TERM"] {
        let mut up = start(&[], &[]);
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
        assert_eq!(up.ended(), Some(0), "{signal}");
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
    let up = start(&["--tls"], &[("MESH__AUTH__MODE", "required")]);
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
    let [nowhere, unbuilt, folder] = [&[][..], &["unbuilt"], &["catalog"]].map(Up::project);
    assert!(refusal(Up::command(&nowhere, &[])).contains("scripts/up"));
    assert!(refusal(Up::command(&unbuilt, &[])).contains("`unbuilt` is not built"));
    let mut without = Up::command(&folder, &[]);
    without.env("PATH", nowhere.path());
    assert!(refusal(without).contains("scripts/tools consul"));
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn up_refuses_in_one_line_on_a_taken_port() {
    if Consul::start().is_none() {
        return;
    }
    let folder = Up::project(&["catalog"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address");
    assert!(refusal(Up::command(&folder, &[&format!("--consul-port={}", taken.port())])).contains("--consul-port"));
    let mut clash = Up::command(&folder, &["--consul-port=0"]);
    clash.env("MESH__SERVICES__CATALOG__LISTEN", taken.to_string());
    assert!(refusal(clash).contains("`catalog` has ended"));
}

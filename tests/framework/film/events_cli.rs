//! The commands of `mesh` for events.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use harness::film::create;
use harness::{Process, command, uuid};
use serde_json::{Value, json};

use super::operations_cli::{line, mesh, monolith};

/// Starts `mesh events follow catalog`, which the test kills.
struct Following {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Following {
    fn start(address: &str, flags: &[&str]) -> Self {
        let mut follow = command("mesh");
        follow.args(["--address", address, "events", "follow", "catalog"]).args(flags);
        let mut child = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        // From here on it prints what comes.
        let mut note = String::new();
        let mut notes = BufReader::new(child.stderr.take().expect("its notes"));
        notes.read_line(&mut note).expect("a note");
        assert!(note.starts_with("following `catalog` "), "{note}");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> String {
        self.lines.next().expect("a line").expect("UTF-8")
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Creates a title with headers.
fn create_with(process: &Process, headers: &[&str], name: &str) {
    let request = json!({"request_id": uuid(), "name": name, "year": 1927}).to_string();
    let flags = headers.iter().flat_map(|header| ["-H", header]).chain(["-d", &request]).collect::<Vec<_>>();
    process.grpcurl().run(&flags, &["catalog.v1.CatalogService/CreateTitle"]).json();
}

#[test]
fn events_list_has_the_sources_and_their_bounds() {
    let Some(process) = monolith() else { return };
    let target = ["--address", &process.address.to_string()];
    let catalog = |of: &str| {
        let table = mesh(target, &["events", "list"]).answer();
        assert_eq!(line(&table, "SOURCE"), ["SOURCE", "HEAD", "KEPT", "OLDEST", "NEWEST", "TYPES"]);
        line(&table, of)[1..].iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(catalog("catalog"), ["0", "0", "-", "-", "TitleAdded,", "TitleChanged,", "TitleRemoved"]);
    create(&process.grpcurl(), "Metropolis");
    create(&process.grpcurl(), "Nosferatu");
    assert_eq!(catalog("catalog")[..2], ["2", "2"]);
}

#[test]
fn events_follow_prints_each_event_across_a_restart() {
    let Some(process) = monolith() else { return };
    let address = process.address.to_string();
    create(&process.grpcurl(), "Metropolis");
    let mut all = Following::start(&address, &["--snapshot"]);
    let first = all.next();
    assert!(first.starts_with("snapshot 1 TitleAdded ") && first.contains(r#""name":"Metropolis""#), "{first}");
    let mut added = Following::start(&address, &["--json", "--types", "catalog.v1.TitleAdded"]);
    let mut removed = Following::start(&address, &["--types", "catalog.v1.TitleRemoved,catalog.v1.TitleChanged"]);

    create(&process.grpcurl(), "Nosferatu");
    assert!([&mut all, &mut added].iter_mut().all(|following| following.next().contains("Nosferatu")));
    let process = Process::start_in(process.kill(), "monolith", &[("MESH__LISTEN", &address)]);
    let title = create(&process.grpcurl(), "Faust");
    let key = title["titleId"].as_str().expect("an id");
    let line = all.next();
    assert!(line.contains(" 3 TitleAdded ") && line.contains(key), "the present state is not sent again: {line}");
    let event: Value = serde_json::from_str(&added.next()).expect("an object");
    assert_eq!((&event["position"], &event["data"]["title"]["name"]), (&json!("3"), &json!("Faust")));
    assert_eq!(event["data"]["@type"], "type.googleapis.com/catalog.v1.TitleAdded");
    process.grpcurl().call("catalog.v1.CatalogService/DeleteTitle", &json!({"title_id": key})).json();
    let line = removed.next();
    assert!(line.contains(" 4 TitleRemoved ") && line.contains(key), "{line}");
}

#[test]
fn events_trace_shows_what_caused_what() {
    let Some(process) = monolith() else { return };
    let target = ["--address", &process.address.to_string()];
    let trace = uuid().replace('-', "");
    let traceparent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
    create_with(&process, &[&traceparent], "Metropolis");
    create(&process.grpcurl(), "of another cause");
    let printed = mesh(target, &["events", "trace", &trace]).answer();
    assert!(printed.lines().count() == 1 && printed.starts_with("catalog "), "{printed}");

    // What a follower calls has the event as its cause.
    let mut following = Following::start(target[1], &["--json"]);
    create_with(&process, &[&traceparent], "Nosferatu");
    let event: Value = serde_json::from_str(&following.next()).expect("an object");
    let [id, correlation] = ["id", "correlationId"].map(|field| event[field].as_str().expect("an id").replace('-', ""));
    assert_eq!(correlation, trace);
    create_with(&process, &[&format!("mesh-cause: {trace}-{id}-1")], "Faust");
    let printed = mesh(target, &["events", "trace", &trace]).answer();
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 3, "{printed}");
    assert!(!lines[1].starts_with(' ') && lines[2].starts_with("  catalog ") && lines[2].contains(" 4 TitleAdded "));

    let unknown = mesh(target, &["events", "trace", &uuid()]);
    assert_eq!((unknown.code, &*unknown.out), (Some(0), ""));
    assert!(unknown.err.contains("no service keeps events or operations with this correlation"), "{unknown:?}");
}

#[test]
fn events_errors_are_one_line() {
    let process = Process::start("monolith", &[]);
    let target = ["--address", &process.address.to_string()];
    for (arguments, expected) in [
        (&["events", "follow", "artwork"][..], "`artwork` publishes no events"),
        (
            &["events", "follow", "catalog", "--types", "catalog.v1.Title"],
            "`catalog` publishes no `catalog.v1.Title`: it ",
        ),
        (&["events", "trace", "1"], "`1` is no correlation: expected a UUID"),
    ] {
        let refused = mesh(target, arguments);
        assert!(refused.error().starts_with(expected), "{refused:?}");
    }
    // A process without events.
    let artwork = Process::start("artwork", &[]);
    let nothing = mesh(["--address", &artwork.address.to_string()], &["events", "list"]);
    assert_eq!((nothing.code, &*nothing.out, nothing.err.trim()), (Some(0), "", "no service publishes events"));
}

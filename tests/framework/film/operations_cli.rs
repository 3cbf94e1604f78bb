//! What `mesh` says to people: about long work and about who is there, asked of a process and through Consul.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use harness::film::{create, large_picture, render, small_picture, wait};
use harness::{Consul, Grpcurl, Process, command, eventually, output, uuid};
use serde_json::{Value, json};

/// How `mesh` ended, and what it wrote.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    /// What it answered.
    fn answer(self) -> String {
        assert_eq!((self.code, &*self.err), (Some(0), ""), "{self:?}");
        self.out
    }

    /// The one line that it complained in.
    fn complaint(&self) -> &str {
        assert_eq!((self.code, self.err.lines().count()), (Some(1), 1), "{self:?}");
        self.err.trim_end().strip_prefix("error: ").unwrap_or_else(|| panic!("no error: {self:?}"))
    }
}

fn mesh(whom: [&str; 2], arguments: &[&str]) -> Said {
    let output = output("mesh", &[&whom, arguments].concat(), |_| ());
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Begins to watch, and has seen the first change.
fn watching(whom: [&str; 2], name: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut watch = command("mesh");
    watch.args(whom).args(["operations", "watch", name]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut out = BufReader::new(watch.stdout.take().expect("its output"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    assert!(!line.is_empty(), "{:?}", watch.wait_with_output());
    (watch, out)
}

/// The line of a table that begins with a word.
fn line<'a>(table: &'a str, first: &str) -> Vec<&'a str> {
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find(|words| words.first() == Some(&first)).unwrap_or_else(|| panic!("no {first} in\n{table}"))
}

/// Everything in one process; `None`, and a word about it, where there is no grpcurl to start work with.
fn monolith() -> Option<Process> {
    Grpcurl::installed().then(|| Process::start("monolith", &[]))
}

/// Where nobody serves.
fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port")
}

#[test]
fn long_work_is_watched_listed_and_shown() {
    let Some(process) = monolith() else { return };
    let whom = ["--address", &process.address.to_string()];
    let nothing = mesh(whom, &["operations", "list"]);
    assert_eq!((nothing.code, &*nothing.out, nothing.err.trim()), (Some(0), "", "no operations"));

    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    let name = render(&grpcurl, &title_id, &small_picture());
    let told = mesh(whom, &["operations", "watch", &name]).answer();
    assert!(told.lines().last().is_some_and(|last| last.ends_with("Z 4/4 succeeded")), "{told}");
    let done: Vec<_> = told.lines().filter_map(|line| line.split(' ').nth(1)?.strip_suffix("/4")).collect();
    assert!(done.len() > 1 && done.is_sorted(), "{told}");
    assert!(!told.contains('\u{1b}') && !told.contains('\r'), "not for a terminal: {told:?}");

    for list in [&["operations", "list"][..], &["operations", "list", "artwork"]] {
        let table = mesh(whom, list).answer();
        assert_eq!(line(&table, "NAME"), ["NAME", "STATE", "ATTEMPT", "PROGRESS", "UPDATED"]);
        assert_eq!(line(&table, &name)[1..4], ["succeeded", "1", "4/4"]);
    }
    let shown = mesh(whom, &["operations", "show", &name]).answer();
    assert_eq!(line(&shown, "state"), ["state", "succeeded"]);
    assert_eq!(line(&shown, "progress"), ["progress", r#"{"done":4,"total":4}"#]);
    let response: Value = serde_json::from_str(&shown[shown.find("\n{").expect("a response")..]).expect("JSON");
    assert_eq!(response["artwork"]["renditions"].as_array().map(Vec::len), Some(4), "{response}");

    let cancelled = mesh(whom, &["operations", "cancel", &name]).answer();
    assert!(cancelled.contains("already done: succeeded"), "{cancelled}");
}

#[test]
fn a_service_is_followed_through_all_that_it_does() {
    let Some(process) = monolith() else { return };
    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    let mut follow = command("mesh");
    follow.args(["--address", &process.address.to_string(), "operations", "follow", "artwork"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().expect("it starts");
    let lines = BufReader::new(follow.stdout.take().expect("its output")).lines().map_while(Result::ok);

    let names = [(); 2].map(|()| render(&grpcurl, &title_id, &small_picture()));
    let (mut told, mut ended) = (String::new(), 0);
    for line in lines {
        ended += usize::from(line.contains("succeeded"));
        told = told + &line + "\n";
        if ended == 2 {
            break;
        }
    }
    follow.kill().and_then(|()| follow.wait()).expect("a child");
    for name in names {
        let states = told.lines().filter(|line| line.ends_with(&name)).count();
        assert!(states >= 3, "{name}: {told}");
    }
}

#[test]
fn every_page_is_listed() {
    let Some(process) = monolith() else { return };
    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    // A page has 50 if nobody says how many.
    let names: Vec<_> = (0..51).map(|_| render(&grpcurl, &title_id, &small_picture())).collect();
    let table = mesh(["--address", &process.address.to_string()], &["operations", "list"]).answer();
    let listed: Vec<_> = table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(listed, names.iter().rev().collect::<Vec<_>>(), "the newest first");
}

#[test]
fn what_failed_says_why() {
    let Some(process) = monolith() else { return };
    let whom = ["--address", &process.address.to_string()];
    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    let mut broken = large_picture();
    broken.truncate(100_000);
    let name = render(&grpcurl, &title_id, &broken);

    let watched = mesh(whom, &["operations", "watch", &name]);
    let why = watched.complaint();
    assert!(
        why.starts_with("the operation failed: InvalidArgument: ") && why.ends_with("(UNDECODABLE_IMAGE)"),
        "{why}"
    );
    let table = mesh(whom, &["operations", "list"]).answer();
    assert_eq!(line(&table, &name)[1], "failed");
    assert!(table.contains("WHY") && table.contains("(UNDECODABLE_IMAGE)"), "{table}");
    let shown = mesh(whom, &["operations", "show", &name]).answer();
    assert!(shown.contains(r#""reason": "UNDECODABLE_IMAGE""#), "{shown}");

    // The picture is no better the second time.
    let again = mesh(whom, &["operations", "retry", &name]).answer();
    assert_ne!(again.trim(), name);
    let watched = mesh(whom, &["operations", "watch", again.trim()]);
    assert!(watched.complaint().contains("(UNDECODABLE_IMAGE)"), "{watched:?}");
}

#[test]
fn an_interrupt_ends_the_watching_and_a_cancel_the_work() {
    let Some(process) = monolith() else { return };
    let whom = ["--address", &process.address.to_string()];
    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();

    // On a machine that stands still for a second the work may be faster.
    let interrupted = (0..5).find_map(|_| {
        let name = render(&grpcurl, &title_id, &large_picture());
        let (watch, _out) = watching(whom, &name);
        Command::new("kill").args(["-INT", &watch.id().to_string()]).status().expect("kill runs");
        let ended = watch.wait_with_output().expect("it ends");
        (ended.status.code() != Some(0)).then_some((name, ended))
    });
    let (name, ended) = interrupted.expect("a watch that lasts");
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("goes on"), "{ended:?}");
    assert_eq!(wait(&grpcurl, &name)["metadata"]["state"], "STATE_SUCCEEDED");

    let cancelled = (0..5).find_map(|_| {
        let name = render(&grpcurl, &title_id, &large_picture());
        let asked = mesh(whom, &["operations", "cancel", &name]).answer();
        assert!(asked.contains("cancellation requested") || asked.contains("already done"), "{asked}");
        let watched = mesh(whom, &["operations", "watch", &name]);
        (watched.code != Some(0)).then_some(watched)
    });
    let watched = cancelled.expect("work that can be cancelled");
    assert!(watched.complaint().starts_with("Cancelled: the operation was cancelled"), "{watched:?}");
}

#[test]
fn what_cannot_be_answered_is_said_in_a_line() {
    let process = Process::start("monolith", &[]);
    let whom = ["--address", &process.address.to_string()];
    let unknown = format!("services/artwork/operations/{}", uuid());
    for command in ["show", "watch", "cancel"] {
        let said = mesh(whom, &["operations", command, &unknown]);
        let line = said.complaint();
        assert!(
            line.starts_with("NotFound: ") && line.contains("(OPERATION_NOT_FOUND): `mesh operations list"),
            "{line}"
        );
        let said = mesh(whom, &["operations", command, "artwork/1"]);
        assert!(said.complaint().contains("`artwork/1` is not an operation name"), "{said:?}");
    }
    let said = mesh(whom, &["operations", "list", "catalog"]);
    assert!(said.complaint().contains("`catalog` does no long work"), "{said:?}");

    let closed = closed_port().to_string();
    for command in [&["services"][..], &["operations", "list"], &["operations", "watch", &unknown]] {
        let said = mesh(["--address", &closed], command);
        assert!(said.complaint().starts_with(&format!("no process answers at {closed}: ")), "{said:?}");
        let said = mesh(["--consul", &closed], command);
        assert!(said.complaint().starts_with(&format!("no Consul agent answers at {closed}: ")), "{said:?}");
    }
}

#[test]
fn somebody_elses_port_is_told_from_a_mesh() {
    let stranger = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = stranger.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        let greet = |mut stream: &TcpStream| stream.write_all(b"HTTP/1.1 400 What?\r\n\r\n").unwrap_or_default();
        // Kept, so that none of them is closed.
        stranger.incoming().flatten().inspect(greet).collect::<Vec<_>>()
    });
    let name = format!("services/artwork/operations/{}", uuid());
    for command in [&["services"][..], &["operations", "list"], &["operations", "watch", &name]] {
        let said = mesh(["--address", &address], command);
        assert!(said.complaint().contains("speaks gRPC"), "{said:?}");
    }
}

#[test]
fn wrong_usage_is_told_apart() {
    let both = ["--address", "127.0.0.1:1", "services", "--consul", "127.0.0.1:1"];
    for wrong in [&["--address", "8080", "services"][..], &both, &["operations", "show"], &[]] {
        assert_eq!(output("mesh", wrong, |_| ()).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn one_process_says_how_well_it_serves() {
    let process = Process::start("monolith", &[]);
    let whom = ["--address", &process.address.to_string()];
    let table = mesh(whom, &["services"]).answer();
    assert_eq!(line(&table, "SERVICE"), ["SERVICE", "ADDRESS", "HEALTH"]);
    for contract in ["artwork.v1.ArtworkService", "catalog.v1.CatalogService"] {
        assert_eq!(line(&table, contract), [contract, whom[1], "serving"]);
    }

    // Nobody reads: an end like any other tool's, and no word about it.
    let mut unread = command("mesh");
    let unread = unread.args(whom).arg("services").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut unread = unread.expect("it starts");
    drop(unread.stdout.take());
    let ended = unread.wait_with_output().expect("it ends");
    assert_eq!((ended.status.code(), ended.stderr), (Some(141), vec![]));
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn consul_says_who_is_there_and_whom_to_ask() {
    let Some(consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let whom = ["--consul", &consul.address.to_string()];
    let unknown = format!("services/artwork/operations/{}", uuid());
    let said = mesh(whom, &["operations", "show", &unknown]);
    assert!(said.complaint().contains("knows no service `artwork`"), "{said:?}");

    let process = Process::start("monolith", &[("MESH__REGISTRY", &consul.registry())]);
    let (here, gone) = (process.address.to_string(), closed_port());
    let check = json!({"TCP": gone.to_string(), "Interval": "1s"});
    let library =
        json!({"Name": "library", "Tags": ["grpc"], "Address": gone.ip(), "Port": gone.port(), "Check": check});
    consul.put("/v1/agent/service/register", &library);
    // It does not speak gRPC, and is not asked for operations.
    consul.put("/v1/agent/service/register", &json!({"Name": "postgres", "Port": gone.port()}));
    consul.passing("artwork", 1);
    consul.passing("catalog", 1);
    let table = eventually("the probe of what is gone", || {
        Some(mesh(whom, &["services"]).answer()).filter(|table| table.contains("connection refused"))
    });
    assert_eq!(line(&table, "SERVICE"), ["SERVICE", "INSTANCE", "ADDRESS", "HEALTH", "WHY"]);
    assert_eq!(line(&table, "artwork")[2..], [&*here, "passing"]);
    assert_eq!(line(&table, "library")[..4], ["library", "library", &gone.to_string(), "critical"]);
    assert!(!table.lines().any(|line| line.starts_with("consul ")), "and not Consul itself: {table}");
    let said = mesh(whom, &["operations", "show", &unknown.replace("artwork", "library")]);
    assert!(said.complaint().contains("no instance of `library` is passing"), "{said:?}");

    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    let name = render(&grpcurl, &title_id, &small_picture());
    mesh(whom, &["operations", "watch", &name]).answer();
    // What can be told is told; then what cannot.
    let listed = mesh(whom, &["operations", "list"]);
    assert!(listed.complaint().starts_with("library: no instance of `library` is passing"), "{listed:?}");
    assert_eq!(line(&listed.out, &name)[1], "succeeded");
    assert_eq!(listed.out.lines().count(), 2, "the catalog does no long work: {}", listed.out);
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn a_watch_follows_a_service_to_where_it_is_now() {
    let Some(consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let whom = ["--consul", &consul.address.to_string()];
    let registry = [("MESH__REGISTRY", &*consul.registry())];
    let process = Process::start("monolith", &registry);
    consul.passing("artwork", 1);
    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    let name = render(&grpcurl, &title_id, &large_picture());

    let (watch, out) = watching(whom, &name);
    let _process = Process::start_in(process.kill(), "monolith", &registry);
    let rest: Vec<_> = out.lines().map_while(Result::ok).collect();
    let ended = watch.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(0), "{rest:?} {ended:?}");
    assert!(rest.last().is_some_and(|last| last.contains("4/4 succeeded")), "{rest:?}");
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn an_agent_that_cannot_answer_is_said_in_a_line() {
    let Some(mut consul) = Consul::start() else { return };
    let address = consul.address.to_string();
    let whom = ["--consul", &*address];
    let usage = mesh(["--consul", &consul.registry()], &["services"]);
    assert!(usage.code == Some(2) && usage.err.contains("must be HOST:PORT"), "{usage:?}");
    let none = mesh(whom, &["services"]);
    assert!(none.code == Some(0) && none.err.contains("knows no services"), "{none:?}");

    consul.signal("STOP");
    let silent = mesh(whom, &["services"]);
    consul.signal("CONT");
    assert!(silent.complaint().starts_with("no Consul agent answers at"), "{silent:?}");
    consul.kill();
    let gone = mesh(whom, &["services"]);
    assert!(gone.complaint().starts_with("no Consul agent answers at"), "{gone:?}");
}

//! The commands of `mesh` for operations and services, with the address of a process and with Consul.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use harness::film::{create, large_picture, render, small_picture, wait};
use harness::{Consul, Grpcurl, Process, command, eventually, output, uuid};
use serde_json::{Value, json};

/// The exit code and the output of `mesh`.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Finished {
    /// The output of a command that succeeded.
    pub(crate) fn answer(self) -> String {
        assert_eq!((self.code, &*self.err), (Some(0), ""), "{self:?}");
        self.out
    }

    /// The one line of a command that failed.
    pub(crate) fn error(&self) -> &str {
        assert_eq!((self.code, self.err.lines().count()), (Some(1), 1), "{self:?}");
        self.err.trim_end().strip_prefix("error: ").unwrap_or_else(|| panic!("no error: {self:?}"))
    }
}

pub(crate) fn mesh(target: [&str; 2], arguments: &[&str]) -> Finished {
    let output = output("mesh", &[&target, arguments].concat(), |_| ());
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Finished { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Starts `mesh operations watch`, and waits for the first change.
fn watching(target: [&str; 2], name: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut watch = command("mesh");
    watch.args(target).args(["operations", "watch", name]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut out = BufReader::new(watch.stdout.take().expect("its output"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    assert!(!line.is_empty(), "{:?}", watch.wait_with_output());
    (watch, out)
}

/// The words of the line that begins with `first`.
pub(crate) fn line<'a>(table: &'a str, first: &str) -> Vec<&'a str> {
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find(|words| words.first() == Some(&first)).unwrap_or_else(|| panic!("no {first} in\n{table}"))
}

/// The monolith. Without grpcurl it prints a note and returns `None`.
pub(super) fn monolith() -> Option<Process> {
    Grpcurl::installed().then(|| Process::start("monolith", &[]))
}

/// An address that nothing listens on.
fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port")
}

#[test]
fn operations_are_watched_listed_and_shown() {
    let Some(process) = monolith() else { return };
    let target = ["--address", &process.address.to_string()];
    let nothing = mesh(target, &["operations", "list"]);
    assert_eq!((nothing.code, &*nothing.out, nothing.err.trim()), (Some(0), "", "no operations"));

    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    let name = render(&grpcurl, &title_id, &small_picture());
    let printed = mesh(target, &["operations", "watch", &name]).answer();
    assert!(printed.lines().last().is_some_and(|last| last.ends_with("Z 4/4 succeeded")), "{printed}");
    let done: Vec<_> = printed.lines().filter_map(|line| line.split(' ').nth(1)?.strip_suffix("/4")).collect();
    assert!(done.len() > 1 && done.is_sorted(), "{printed}");
    assert!(
        !printed.contains('\u{1b}') && !printed.contains('\r'),
        "control characters in output that is no terminal: {printed:?}"
    );

    for list in [&["operations", "list"][..], &["operations", "list", "artwork"]] {
        let table = mesh(target, list).answer();
        assert_eq!(line(&table, "NAME"), ["NAME", "KIND", "STATE", "ATTEMPT", "PROGRESS", "UPDATED"]);
        assert_eq!(line(&table, &name)[1..5], ["RenderArtwork", "succeeded", "1", "4/4"]);
    }
    let shown = mesh(target, &["operations", "show", &name]).answer();
    assert_eq!(line(&shown, "state"), ["state", "succeeded"]);
    assert_eq!(line(&shown, "progress"), ["progress", r#"{"done":4,"total":4}"#]);
    let response: Value = serde_json::from_str(&shown[shown.find("\n{").expect("a response")..]).expect("JSON");
    assert_eq!(response["artwork"]["renditions"].as_array().map(Vec::len), Some(4), "{response}");

    let cancelled = mesh(target, &["operations", "cancel", &name]).answer();
    assert!(cancelled.contains("already done: succeeded"), "{cancelled}");
}

#[test]
fn follow_prints_every_operation_of_a_service() {
    let Some(process) = monolith() else { return };
    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    let mut follow = command("mesh");
    follow.args(["--address", &process.address.to_string(), "operations", "follow", "artwork"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().expect("it starts");
    let lines = BufReader::new(follow.stdout.take().expect("its output")).lines().map_while(Result::ok);

    let names = [(); 2].map(|()| render(&grpcurl, &title_id, &small_picture()));
    let (mut printed, mut ended) = (String::new(), 0);
    for line in lines {
        ended += usize::from(line.contains("succeeded"));
        printed = printed + &line + "\n";
        if ended == 2 {
            break;
        }
    }
    follow.kill().and_then(|()| follow.wait()).expect("a child");
    for name in names {
        let states = printed.lines().filter(|line| line.ends_with(&name)).count();
        assert!(states >= 3, "{name}: {printed}");
    }
}

#[test]
fn list_reads_every_page() {
    let Some(process) = monolith() else { return };
    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    // The default page size is 50.
    let names: Vec<_> = (0..51).map(|_| render(&grpcurl, &title_id, &small_picture())).collect();
    let table = mesh(["--address", &process.address.to_string()], &["operations", "list"]).answer();
    let listed: Vec<_> = table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(listed, names.iter().rev().collect::<Vec<_>>(), "the newest first");
}

#[test]
fn failed_operation_shows_its_error() {
    let Some(process) = monolith() else { return };
    let target = ["--address", &process.address.to_string()];
    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    let mut broken = large_picture();
    broken.truncate(100_000);
    let name = render(&grpcurl, &title_id, &broken);

    let watched = mesh(target, &["operations", "watch", &name]);
    let why = watched.error();
    assert!(
        why.starts_with("the operation failed: InvalidArgument: ") && why.ends_with("(UNDECODABLE_IMAGE)"),
        "{why}"
    );
    let table = mesh(target, &["operations", "list"]).answer();
    assert_eq!(line(&table, &name)[2], "failed");
    assert!(table.contains("WHY") && table.contains("(UNDECODABLE_IMAGE)"), "{table}");
    let shown = mesh(target, &["operations", "show", &name]).answer();
    assert!(shown.contains(r#""reason": "UNDECODABLE_IMAGE""#), "{shown}");

    let resumed = mesh(target, &["operations", "resume", &name]);
    assert!(resumed.error().contains("(OPERATION_NOT_STUCK)"), "{resumed:?}");

    // The same picture fails again.
    let again = mesh(target, &["operations", "retry", &name]).answer();
    assert_ne!(again.trim(), name);
    let watched = mesh(target, &["operations", "watch", again.trim()]);
    assert!(watched.error().contains("(UNDECODABLE_IMAGE)"), "{watched:?}");
}

#[test]
fn interrupt_ends_the_watch_and_cancel_the_operation() {
    let Some(process) = monolith() else { return };
    let target = ["--address", &process.address.to_string()];
    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();

    // On a busy machine the work may end first.
    let interrupted = (0..5).find_map(|_| {
        let name = render(&grpcurl, &title_id, &large_picture());
        let (watch, _out) = watching(target, &name);
        Command::new("kill").args(["-INT", &watch.id().to_string()]).status().expect("kill runs");
        let ended = watch.wait_with_output().expect("it ends");
        (ended.status.code() != Some(0)).then_some((name, ended))
    });
    let (name, ended) = interrupted.expect("a watch that was interrupted");
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("goes on"), "{ended:?}");
    assert_eq!(wait(&grpcurl, &name)["metadata"]["state"], "STATE_SUCCEEDED");

    let cancelled = (0..5).find_map(|_| {
        let name = render(&grpcurl, &title_id, &large_picture());
        let asked = mesh(target, &["operations", "cancel", &name]).answer();
        assert!(asked.contains("cancellation requested") || asked.contains("already done"), "{asked}");
        let watched = mesh(target, &["operations", "watch", &name]);
        (watched.code != Some(0)).then_some(watched)
    });
    let watched = cancelled.expect("an operation that was cancelled");
    assert!(watched.error().starts_with("Cancelled: the operation was cancelled"), "{watched:?}");
}

#[test]
fn errors_are_one_line() {
    let process = Process::start("monolith", &[]);
    let target = ["--address", &process.address.to_string()];
    let unknown = format!("services/artwork/operations/{}", uuid());
    for command in ["show", "watch", "cancel"] {
        let result = mesh(target, &["operations", command, &unknown]);
        let line = result.error();
        assert!(
            line.starts_with("NotFound: ") && line.contains("(OPERATION_NOT_FOUND): `mesh operations list"),
            "{line}"
        );
        let result = mesh(target, &["operations", command, "artwork/1"]);
        assert!(result.error().contains("`artwork/1` is not an operation name"), "{result:?}");
    }
    let result = mesh(target, &["operations", "list", "catalog"]);
    assert!(result.error().contains("`catalog` does no long work"), "{result:?}");

    let closed = closed_port().to_string();
    for command in [&["services"][..], &["operations", "list"], &["operations", "watch", &unknown]] {
        let result = mesh(["--address", &closed], command);
        assert!(result.error().starts_with(&format!("no process answers at {closed}: ")), "{result:?}");
        let result = mesh(["--consul", &closed], command);
        assert!(result.error().starts_with(&format!("no Consul agent answers at {closed}: ")), "{result:?}");
    }
}

#[test]
fn foreign_server_is_recognized() {
    let stranger = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = stranger.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        let greet = |mut stream: &TcpStream| stream.write_all(b"HTTP/1.1 400 What?\r\n\r\n").unwrap_or_default();
        // The connections are kept, so that none of them closes.
        stranger.incoming().flatten().inspect(greet).collect::<Vec<_>>()
    });
    let name = format!("services/artwork/operations/{}", uuid());
    for command in [&["services"][..], &["operations", "list"], &["operations", "watch", &name]] {
        let result = mesh(["--address", &address], command);
        assert!(result.error().contains("speaks gRPC"), "{result:?}");
    }
}

#[test]
fn wrong_usage_exits_2() {
    let both = ["--address", "127.0.0.1:1", "services", "--consul", "127.0.0.1:1"];
    for wrong in [&["--address", "8080", "services"][..], &both, &["operations", "show"], &[]] {
        assert_eq!(output("mesh", wrong, |_| ()).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn services_shows_the_health_of_one_process() {
    let process = Process::start("monolith", &[]);
    let target = ["--address", &process.address.to_string()];
    let Finished { code, out: table, err } = mesh(target, &["services"]);
    let others = format!("the process at {} alone: --address asks another one", target[1]);
    assert!(code == Some(0) && err.lines().count() == 1 && err.contains(&others), "{code:?} {err}");
    assert_eq!(line(&table, "SERVICE"), ["SERVICE", "ADDRESS", "HEALTH"]);
    for contract in ["artwork.v1.ArtworkService", "catalog.v1.CatalogService"] {
        assert_eq!(line(&table, contract), [contract, target[1], "serving"]);
    }

    // The reader closes the pipe: the command exits as other tools do, without a message.
    let mut unread = command("mesh");
    let unread = unread.args(target).arg("services").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut unread = unread.expect("it starts");
    drop(unread.stdout.take());
    let ended = unread.wait_with_output().expect("it ends");
    assert_eq!((ended.status.code(), ended.stderr), (Some(141), vec![]));
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn services_and_operations_are_found_through_consul() {
    let Some(consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let target = ["--consul", &consul.address.to_string()];
    let unknown = format!("services/artwork/operations/{}", uuid());
    let result = mesh(target, &["operations", "show", &unknown]);
    assert!(result.error().contains("knows no service `artwork`"), "{result:?}");

    let process = Process::start("monolith", &[("MESH__REGISTRY", &consul.registry())]);
    let (here, gone) = (process.address.to_string(), closed_port());
    let check = json!({"TCP": gone.to_string(), "Interval": "1s"});
    let archive =
        json!({"Name": "archive", "Tags": ["grpc"], "Address": gone.ip(), "Port": gone.port(), "Check": check});
    consul.put("/v1/agent/service/register", &archive);
    // This service does not speak gRPC, and is not asked for operations.
    consul.put("/v1/agent/service/register", &json!({"Name": "postgres", "Port": gone.port()}));
    consul.passing("artwork", 1);
    consul.passing("catalog", 1);
    let table = eventually("the check of the missing instance fails", || {
        Some(mesh(target, &["services"]).answer()).filter(|table| table.contains("connection refused"))
    });
    assert_eq!(line(&table, "SERVICE"), ["SERVICE", "INSTANCE", "ADDRESS", "VERSION", "BUILD", "HEALTH", "WHY"]);
    let artwork = line(&table, "artwork");
    assert_eq!([artwork[2], artwork[3], artwork[5]], [&*here, env!("CARGO_PKG_VERSION"), "passing"]);
    assert_eq!(line(&table, "archive")[..6], ["archive", "archive", &gone.to_string(), "-", "-", "critical"]);
    assert!(!table.lines().any(|line| line.starts_with("consul ")), "the table lists Consul itself: {table}");
    let result = mesh(target, &["operations", "show", &unknown.replace("artwork", "archive")]);
    assert!(result.error().contains("no instance of `archive` is passing"), "{result:?}");

    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    let name = render(&grpcurl, &title_id, &small_picture());
    mesh(target, &["operations", "watch", &name]).answer();
    // The command prints the operations of reachable services, then the errors of the others.
    let listed = mesh(target, &["operations", "list"]);
    assert!(listed.error().starts_with("archive: no instance of `archive` is passing"), "{listed:?}");
    assert_eq!(line(&listed.out, &name)[2], "succeeded");
    assert_eq!(listed.out.lines().count(), 2, "the catalog does no long work: {}", listed.out);
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn watch_follows_a_service_to_its_new_instance() {
    let Some(consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let target = ["--consul", &consul.address.to_string()];
    let registry = [("MESH__REGISTRY", &*consul.registry())];
    let process = Process::start("monolith", &registry);
    consul.passing("artwork", 1);
    let grpcurl = process.grpcurl();
    let title_id = create(&grpcurl, "Metropolis")["titleId"].clone();
    let name = render(&grpcurl, &title_id, &large_picture());

    let (watch, out) = watching(target, &name);
    let _process = Process::start_in(process.kill(), "monolith", &registry);
    let rest: Vec<_> = out.lines().map_while(Result::ok).collect();
    let ended = watch.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(0), "{rest:?} {ended:?}");
    assert!(rest.last().is_some_and(|last| last.contains("4/4 succeeded")), "{rest:?}");
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn consul_errors_are_one_line() {
    let Some(mut consul) = Consul::start() else { return };
    let address = consul.address.to_string();
    let target = ["--consul", &*address];
    let usage = mesh(["--consul", &consul.registry()], &["services"]);
    assert!(usage.code == Some(2) && usage.err.contains("must be HOST:PORT"), "{usage:?}");
    let none = mesh(target, &["services"]);
    assert!(none.code == Some(0) && none.err.contains("knows no services"), "{none:?}");

    consul.signal("STOP");
    let silent = mesh(target, &["services"]);
    consul.signal("CONT");
    assert!(silent.error().starts_with("no Consul agent answers at"), "{silent:?}");
    consul.kill();
    let gone = mesh(target, &["services"]);
    assert!(gone.error().starts_with("no Consul agent answers at"), "{gone:?}");
}

//! A database that is missing, emptied or of the wrong kind stops the process with one line that says what to do.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use harness::film::create;
use harness::{Ended, Grpcurl, LIMIT, Postgres, Process, RawCall, Session, command, eventually, execute};
use tempfile::TempDir;

use crate::bad_start::{FREE, refuses, refuses_with};

/// The URL without the name of the database.
fn server(postgres: &Postgres) -> String {
    postgres.database("other").trim_end_matches("other").to_owned()
}

fn set(service: &str, url: &str) -> String {
    format!("--set=services.{service}.database_url={url}")
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn missing_databases_are_named_together_with_their_commands() {
    let Some(postgres) = Postgres::start() else { return };
    let server = server(&postgres);
    let port = server.trim_end_matches('/').rsplit(':').next().expect("a port").to_owned();
    let [catalog, artwork] = ["titles", "pictures"].map(|name| format!("{server}{name}"));
    let createdb = |name: &str| format!("createdb -h 127.0.0.1 -p {port} -U postgres {name}");

    let both = [FREE, &set("catalog", &catalog), &set("artwork", &artwork)];
    let errors = refuses(&both, |_| ());
    assert_eq!(errors.len(), 1, "{errors:#?}");
    for word in ["`catalog`", "`artwork`", " && ", &createdb("titles"), &createdb("pictures")] {
        assert!(errors[0].contains(word), "`{word}` is not in: {}", errors[0]);
    }
    assert!(!errors[0].contains(" line "), "the source of Postgres: {}", errors[0]);

    execute(&format!("{server}other"), "CREATE DATABASE titles");
    let errors = refuses(&both, |_| ());
    assert!(errors[0].contains("`artwork`") && !errors[0].contains("`catalog`"), "{errors:#?}");
}

#[test]
fn server_that_does_not_answer_is_named() {
    // The kernel accepts connections for it, and nothing reads them.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = silent.local_addr().expect("an address").port();
    let words = [&*format!("127.0.0.1 port {port} does not answer within 200 ms"), "services.catalog.database_url"];
    let url = set("catalog", &format!("postgres://me@127.0.0.1:{port}/titles"));
    refuses_with(&words, &[FREE, "--set=database.wait=200ms", &url], |_| ());
}

#[test]
fn postgres_url_without_a_database_is_refused() {
    for url in ["postgres://me@127.0.0.1:1", "postgres://me@127.0.0.1:1/"] {
        let words = ["services.catalog.database_url", "postgres://user@host/database"];
        refuses_with(&words, &[FREE, &set("catalog", url)], |_| ());
    }
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn ipv6_address_of_postgres_is_reached() {
    if !Grpcurl::installed() || std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let Some(postgres) = Postgres::shared() else { return };
    let url = postgres.database("over_ipv6").replace("127.0.0.1", "[::1]");
    let process = Process::start("monolith", &[("MESH__SERVICES__CATALOG__DATABASE_URL", &url)]);
    create(&process.grpcurl(), "Metropolis");
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn database_that_is_not_utf8_is_refused() {
    let Some(postgres) = Postgres::start() else { return };
    let server = server(&postgres);
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let name = encoding.to_lowercase();
        let create = format!("CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0");
        execute(&format!("{server}other"), &create);
        let words = [encoding, "UTF8", &format!("-E UTF8 -T template0 {name}")];
        refuses_with(&words, &[FREE, &set("catalog", &format!("{server}{name}"))], |_| ());
    }
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn user_of_postgres_is_that_of_the_process() {
    let Some(postgres) = Postgres::shared() else { return };
    let url = postgres.database("nobody_s").replace("postgres@", "");
    let name = std::process::Command::new("id").arg("-un").output().expect("id runs").stdout;
    let role = format!("role \"{}\"", String::from_utf8(name).expect("UTF-8").trim());
    for user in [None, Some("frida")] {
        let mut process = command("monolith");
        process.env_remove("USER").env_remove("PGUSER").args([FREE, &set("catalog", &url)]);
        process.envs(user.map(|user| ("USER", user)));
        let refused = process.output().expect("it starts");
        let error = String::from_utf8(refused.stderr).expect("UTF-8");
        assert!(!refused.status.success() && error.contains(&role) && !error.contains(" line "), "{role}: {error}");
    }
}

#[test]
fn emptied_database_is_refused() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    create(&process.grpcurl(), "Metropolis");
    let folder = process.kill();
    let data = folder.path().join("data");
    let path = |ending: &str| data.join(format!("catalog.db{ending}"));
    let data_dir = format!("--data-dir={}", data.display());
    let refused = || refuses_with(&["catalog.db is empty", "restore a backup"], &[FREE, &data_dir], |_| ());
    let saved = std::fs::read(path("-wal")).expect("the log of a killed process");
    assert!(!saved.is_empty());

    // The log alone tells, as after a file was moved away.
    std::fs::remove_file(path("")).expect("the database");
    refused();
    assert_eq!(std::fs::read(path("-wal")).expect("the log"), saved, "it may hold the only copy");
    // The mark alone tells.
    std::fs::write(path(""), "").expect("a file");
    std::fs::remove_file(path("-wal")).expect("the log");
    refused();
    // A file that was deleted on purpose is created again.
    std::fs::remove_file(path("")).expect("the database");
    create(&Process::start_in(folder, "monolith", &[]).grpcurl(), "Metropolis");
}

#[test]
fn empty_file_without_a_past_is_a_new_database() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir(folder.path().join("data")).expect("a folder");
    // A process that was killed in its first milliseconds leaves these.
    for file in ["catalog.db", "catalog.db.lock"] {
        std::fs::write(folder.path().join("data").join(file), "").expect("a file");
    }
    Process::start_in(folder, "monolith", &[]);
}

/// An address that is free now, for a port that must be known before a process listens.
pub(super) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port")
}

/// The answer of a port to a request over HTTP/1.1, once it accepts connections.
pub(super) fn page(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    Some(answer)
}

/// A monolith whose migrations wait up to 5 s for the writer of a database.
struct Starting {
    writer: Session,
    address: SocketAddr,
    process: Child,
    folder: TempDir,
}

impl Starting {
    fn begin() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let database = folder.path().join("catalog.db");
        std::fs::write(&database, "").expect("a file");
        let mut writer = Session::open(&format!("sqlite://{}", database.display()));
        writer.execute("PRAGMA journal_mode = WAL");
        writer.execute("BEGIN IMMEDIATE");
        let address = free_address();
        let mut process = command("monolith");
        let arguments = [format!("--listen={address}"), format!("--data-dir={}", folder.path().display())];
        process.current_dir(folder.path()).args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        Self { writer, address, process: process.spawn().expect("it starts"), folder }
    }

    /// `/readyz`, once the port answers.
    fn ready(&self) -> String {
        eventually("the port answers", || page(self.address, "/readyz"))
    }

    fn begin_call(&self, path: &str) -> RawCall {
        RawCall::begin(self.address, path, &[])
    }

    fn check(&self, request: &[u8]) -> Ended {
        self.begin_call("/grpc.health.v1.Health/Check").finish(request)
    }

    /// Sends SIGTERM and waits for the end.
    fn stop(&mut self) -> ExitStatus {
        let kill = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        assert!(kill.expect("kill runs").success());
        eventually("it ends", || self.process.try_wait().expect("a child"))
    }
}

#[test]
fn start_that_waits_for_a_lock_is_not_ready_and_obeys_sigterm() {
    let mut starting = Starting::begin();
    let ready = starting.ready();
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("\r\n\r\nstarting: "), "{ready}");
    let alive = page(starting.address, "/healthz");
    assert!(alive.is_some_and(|page| page.starts_with("HTTP/1.1 200")), "the process is alive");

    let sent = Instant::now();
    let ended = starting.stop();
    assert!(ended.success() && sent.elapsed() < Duration::from_secs(2), "{ended} after {:?}", sent.elapsed());

    starting.writer.execute("ROLLBACK");
    let Starting { writer, folder, .. } = starting;
    drop(writer);
    let data_dir = folder.path().display().to_string();
    Process::start("monolith", &[("MESH__DATA_DIR", &data_dir)]);
}

#[test]
fn start_reports_health_and_refuses_other_calls() {
    let mut starting = Starting::begin();
    starting.ready();
    let asked_for = |service: &str| [&[0x0a, service.len() as u8], service.as_bytes()].concat();
    let (serving, not_serving) = ([0, 0, 0, 0, 2, 8, 1], [0, 0, 0, 0, 2, 8, 2]);
    let catalog = asked_for("catalog.v1.CatalogService");
    let mut watch = starting.begin_call("/grpc.health.v1.Health/Watch");
    watch.send(&catalog);

    for service in
        [&b""[..], &catalog, &asked_for("google.longrunning.Operations"), &asked_for("grpc.health.v1.Health")]
    {
        let checked = starting.check(service);
        assert_eq!((&*checked.code, &*checked.body), ("0", &not_serving[..]), "NOT_SERVING: {service:?}");
    }
    assert_eq!(starting.check(&asked_for("made.up.Service")).code, "5", "NOT_FOUND");
    for path in ["/catalog.v1.CatalogService/GetTitle", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"] {
        assert_eq!(starting.begin_call(path).finish(b"").code, "14", "{path}: UNAVAILABLE");
    }

    starting.writer.execute("ROLLBACK");
    eventually("it serves", || page(starting.address, "/readyz").filter(|page| page.starts_with("HTTP/1.1 200")));
    assert_eq!(starting.check(&catalog).body, serving);
    assert!(starting.stop().success());
    assert_eq!(watch.ended().body, [not_serving, serving, not_serving].concat(), "the start, the service, the drain");
}

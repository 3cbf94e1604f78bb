//! A database that fails while its service runs: the code, the reason, `/readyz` and health together, before, during
//! and after the fault.

use std::process::Command;
use std::time::{Duration, Instant};

use harness::film::{call, create, failure};
use harness::{Grpcurl, Postgres, Process, Proxy, eventually, execute, uuid};
use serde_json::{Value, json};

/// A process, and a title that it has stored.
struct Served {
    process: Process,
    title: Value,
}

impl Served {
    fn by(process: Process) -> Self {
        let title = create(&process.grpcurl(), "Metropolis");
        let served = Self { process, title };
        served.is_well();
        served
    }

    /// The code, the reason and the condition of a write; `None` if it succeeds.
    fn write(&self) -> Option<[String; 3]> {
        let request =
            json!({"request_id": uuid(), "name": "M", "synopsis": "A city", "year": 1931, "price_cents": 399});
        let answer = self.process.grpcurl().call("catalog.v1.CatalogService/CreateTitle", &request);
        answer.failed().then(|| {
            let (code, reason) = answer.failure();
            let condition = &answer.detail("google.rpc.ErrorInfo")["metadata"]["condition"];
            [code, reason, condition.as_str().unwrap_or_default().to_owned()]
        })
    }

    fn reads(&self) {
        let read = call(&self.process.grpcurl(), "GetTitle", &json!({"title_id": self.title["titleId"]}));
        assert_eq!(read["title"], self.title);
    }

    /// The status line and the line of the catalog on `/readyz`, and the health of the catalog.
    fn readiness(&self) -> (String, String, String) {
        let page = self.process.http("/readyz");
        let line = page.lines().find(|line| line.contains("catalog:")).unwrap_or_default().to_owned();
        let health = json!({"service": "catalog.v1.CatalogService"});
        let health = self.process.grpcurl().call("grpc.health.v1.Health/Check", &health).json();
        let status = page.split(' ').nth(1).unwrap_or_default().to_owned();
        (status, line, health["status"].as_str().unwrap_or_default().to_owned())
    }

    /// Writes and reads work, and the service is ready.
    fn is_well(&self) {
        let ready = ("200".to_owned(), "catalog: ready".to_owned(), "SERVING".to_owned());
        eventually("it is ready", || (self.readiness() == ready).then_some(()));
        assert!(self.process.http("/metrics").contains("mesh_service_degraded{service=\"catalog\"} 0"));
        self.reads();
        assert_eq!(self.write(), None);
    }

    /// Writes fail under this condition, and the service reports NOT_SERVING with these words.
    fn is_not_serving(&self, condition: &str, words: &str) {
        let refused = eventually("a write is refused", || self.write());
        assert_eq!(refused, ["Unavailable", "DATABASE_UNAVAILABLE", condition]);
        let (_, line, _) = eventually("it is not ready", || {
            let seen = self.readiness();
            (seen.0 == "503" && seen.2 == "NOT_SERVING").then_some(seen)
        });
        assert_eq!(line, format!("catalog: not ready: {words}"));
        assert!(self.process.http("/healthz").starts_with("HTTP/1.1 200"), "the process is alive");
    }

    /// Writes fail under this condition, reads work, and the service stays in discovery.
    fn is_degraded(&self, condition: &str, words: &str) {
        let refused = eventually("a write is refused", || self.write());
        assert_eq!(refused, ["Unavailable", "DATABASE_UNAVAILABLE", condition]);
        let (status, _, health) = eventually("it is degraded", || {
            let seen = self.readiness();
            (seen.1 == format!("degraded: catalog: {words}; writes fail, reads work")).then_some(seen)
        });
        assert_eq!((status.as_str(), health.as_str()), ("200", "SERVING"));
        assert!(self.process.http("/metrics").contains("mesh_service_degraded{service=\"catalog\"} 1"));
        self.reads();
    }

    /// Limits the size of the files that it writes.
    fn limit_files(&self, limit: &str) {
        let mut prlimit = Command::new("prlimit");
        let set = prlimit.args(["--pid", &self.process.id().to_string(), &format!("--fsize={limit}")]).status();
        assert!(set.expect("prlimit runs").success());
    }

    /// How often its log has these words.
    fn logged(&self, words: &str) -> usize {
        self.process.log().lines().filter(|line| line.contains("catalog") && line.contains(words)).count()
    }
}

#[test]
fn full_disk_makes_the_instance_not_serving_until_a_write_succeeds() {
    if !Grpcurl::installed() {
        return;
    }
    let Some(small_disk) = small_disk() else { return };
    let served = Served::by(Process::start_under(small_disk, "monolith"));
    let filler = served.process.working_folder().join("data/filler");
    let mut filling = std::fs::File::create(&filler).expect("a file");
    std::io::copy(&mut std::io::repeat(1), &mut filling).expect_err("the disk is full");
    drop(filling);

    served.is_not_serving("full", "the disk of the database is full");
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        served.reads();
        assert_eq!(served.readiness().0, "503", "a read that works does not make it ready");
    }
    std::fs::remove_file(&filler).expect("a file");
    served.is_well();
    assert_eq!((served.logged("not ready"), served.logged("ready again")), (1, 1), "{}", served.process.log());
}

#[test]
fn file_that_cannot_be_written_is_away_and_not_serving() {
    if !Grpcurl::installed() {
        return;
    }
    // A limit for the size of files is an error of a write, since the signal for it is ignored.
    let mut heedless = Command::new("sh");
    heedless.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]);
    let served = Served::by(Process::start_under(heedless, "monolith"));
    let log = served.process.working_folder().join("data/catalog.db-wal");
    // The write-ahead log grows past the file that the probe writes beside the database.
    const LIMIT: u64 = 1_200_000;
    while std::fs::metadata(&log).expect("a log").len() < LIMIT {
        let title =
            json!({"request_id": uuid(), "name": "M", "synopsis": "M".repeat(2000), "year": 1931, "price_cents": 1});
        call(&served.process.grpcurl(), "CreateTitle", &title);
    }
    served.limit_files(&format!("{LIMIT}:"));
    served.is_not_serving("away", "the database is away");
    served.reads();
    served.limit_files("unlimited:");
    served.is_well();
    assert_eq!((served.logged("not ready"), served.logged("ready again")), (1, 1), "{}", served.process.log());
}

#[test]
fn removed_data_directory_acknowledges_no_write() {
    if !Grpcurl::installed() {
        return;
    }
    let served = Served::by(Process::start("monolith", &[]));
    std::fs::remove_dir_all(served.process.folder.path().join("data")).expect("a folder");
    for _ in 0..20 {
        assert_eq!(served.write(), Some(["Unavailable", "DATABASE_UNAVAILABLE", "moved"].map(str::to_owned)));
    }
    served.is_not_serving("moved", "the file of the database was moved or removed");
    assert_eq!(served.logged("not ready"), 1, "{}", served.process.log());
    let errors = served.process.log().lines().filter(|line| line.contains("ERROR")).count();
    assert_eq!(errors, 1, "one line for an outage, not one for each call: {}", served.process.log());
}

#[test]
fn data_directory_that_is_moved_back_serves_again() {
    if !Grpcurl::installed() {
        return;
    }
    let served = Served::by(Process::start("monolith", &[]));
    let data = served.process.folder.path().join("data");
    std::fs::rename(&data, data.with_extension("away")).expect("a folder");
    served.is_not_serving("moved", "the file of the database was moved or removed");
    std::fs::rename(data.with_extension("away"), &data).expect("a folder");
    served.is_well();
}

#[test]
fn damaged_page_degrades_until_the_process_ends() {
    if !Grpcurl::installed() {
        return;
    }
    let mut process = Process::start("monolith", &[]);
    // Each title has a page of its own.
    let synopsis = |word: &str| word.repeat(2000 / word.len());
    let titles = ["broken", "intact"].map(|word| {
        let title =
            json!({"request_id": uuid(), "name": word, "synopsis": synopsis(word), "year": 1927, "price_cents": 1});
        let title = call(&process.grpcurl(), "CreateTitle", &title)["title"].clone();
        (0..3).for_each(|_| drop(create(&process.grpcurl(), &"M".repeat(200))));
        title
    });
    // An orderly end moves the log into the file.
    process.signal("TERM");
    process.ended();
    let folder = process.folder_left();
    let path = folder.path().join("data/catalog.db");
    let mut bytes = std::fs::read(&path).expect("the database");
    let [broken, intact] = titles;
    // The first columns of its row. An earlier page may keep a copy from before the tree grew.
    let row = format!("{}broken", broken["titleId"].as_str().expect("an id"));
    let at = bytes.windows(row.len()).rposition(|found| found == row.as_bytes()).expect("the row") / 4096 * 4096;
    bytes[at..at + 4096].fill(0xff);
    std::fs::write(&path, bytes).expect("the database");

    let served = Served { process: Process::start_in(folder, "monolith", &[]), title: intact };
    served.is_well();
    let read = json!({"title_id": broken["titleId"]});
    let failed = failure(&served.process.grpcurl(), "GetTitle", &read);
    assert_eq!(failed, ("DataLoss".to_owned(), "DATABASE_CORRUPT".to_owned()));
    let line = "degraded: catalog: the database is damaged; calls that touch the damage fail: restore a backup";
    let degraded = ("200".to_owned(), line.to_owned(), "SERVING".to_owned());
    eventually("it is degraded", || (served.readiness() == degraded).then_some(()));
    assert!(served.process.http("/metrics").contains("mesh_service_degraded{service=\"catalog\"} 1"));
    served.reads();
    assert_eq!(served.write(), None, "a write to another page");
    // What works elsewhere does not end it.
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        served.reads();
        assert_eq!(served.readiness(), degraded);
    }
    assert_eq!(served.logged("degraded"), 1, "{}", served.process.log());
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn read_only_server_degrades_and_comes_back() {
    let Some((_postgres, server, served)) = on_postgres() else { return };
    execute(&server, "ALTER SYSTEM SET default_transaction_read_only = on");
    execute(&server, "SELECT pg_reload_conf()");
    served.is_degraded("read-only", "the database is read-only");
    execute(&server, "ALTER SYSTEM RESET default_transaction_read_only");
    execute(&server, "SELECT pg_reload_conf()");
    served.is_well();
    assert_eq!((served.logged("degraded"), served.logged("ready again")), (1, 1), "{}", served.process.log());
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn sessions_that_began_read_only_are_replaced() {
    let Some((_postgres, server, served)) = on_postgres() else { return };
    // The setting holds for sessions that begin under it, as those do that reach a former primary.
    execute(&server, "ALTER DATABASE catalog SET default_transaction_read_only = on");
    execute(&server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'catalog'");
    served.is_degraded("read-only", "the database is read-only");
    // Each connection of the pool has such a session.
    std::thread::scope(|scope| {
        (0..8).for_each(|_| drop(scope.spawn(|| served.reads())));
    });
    execute(&server, "ALTER DATABASE catalog RESET default_transaction_read_only");
    served.is_well();
    std::thread::scope(|scope| {
        let writes: Vec<_> = (0..16).map(|_| scope.spawn(|| served.write())).collect();
        for write in writes {
            assert_eq!(write.join().expect("a write"), None, "a session is still read-only");
        }
    });
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn full_server_degrades_and_comes_back() {
    let Some((postgres, _, served)) = on_postgres() else { return };
    let url = postgres.url("catalog");
    // The error that Postgres raises where a table cannot grow.
    let full = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'could not extend file \"secret\"' USING ERRCODE = 'disk_full'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON mesh_requests EXECUTE FUNCTION refuse()";
    execute(&url, full);
    served.is_degraded("full", "the disk of the database is full");
    execute(&url, "DROP TRIGGER refuse ON mesh_requests");
    served.is_well();
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn closed_database_is_away_and_not_serving() {
    let Some((_postgres, server, served)) = on_postgres() else { return };
    execute(&server, "ALTER DATABASE catalog ALLOW_CONNECTIONS false");
    execute(&server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'catalog'");
    served.is_not_serving("away", "the database is away");
    execute(&server, "ALTER DATABASE catalog ALLOW_CONNECTIONS true");
    served.is_well();
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn refused_login_is_away_and_not_serving() {
    if !Grpcurl::installed() {
        return;
    }
    let Some(postgres) = Postgres::start() else { return };
    let (url, server) = (postgres.database("catalog").replace("postgres@", "film@"), postgres.url("postgres"));
    execute(&server, "CREATE ROLE film LOGIN SUPERUSER");
    let served = Served::by(Process::start("monolith", &[("MESH__SERVICES__CATALOG__DATABASE_URL", &url)]));
    execute(&server, "ALTER ROLE film NOLOGIN");
    execute(&server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'film'");
    served.is_not_serving("away", "the database is away");
    execute(&server, "ALTER ROLE film LOGIN");
    served.is_well();
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn server_that_falls_silent_is_away_until_it_answers() {
    if !Grpcurl::installed() {
        return;
    }
    let Some(postgres) = Postgres::start() else { return };
    let url = postgres.database("catalog");
    let port = url.rsplit(':').next().and_then(|rest| rest.split('/').next()).expect("a port");
    let network = Proxy::to(format!("127.0.0.1:{port}").parse().expect("an address"));
    let through = url.replace(port, &network.address.port().to_string());
    let settings = [("MESH__SERVICES__CATALOG__DATABASE_URL", &*through), ("MESH__DATABASE__WAIT", "500ms")];
    let served = Served::by(Process::start("monolith", &settings));
    network.stall();
    served.is_not_serving("away", "the database is away");
    network.heal();
    served.is_well();
}

/// A Postgres server, the URL of another database on it, and a process that uses it.
fn on_postgres() -> Option<(Postgres, String, Served)> {
    if !Grpcurl::installed() {
        return None;
    }
    let postgres = Postgres::start()?;
    let url = postgres.database("catalog");
    let served = Served::by(Process::start("monolith", &[("MESH__SERVICES__CATALOG__DATABASE_URL", &url)]));
    let server = postgres.url("postgres");
    Some((postgres, server, served))
}

/// A command that runs another one with a small disk at `data`, in a mount namespace. Without namespaces it prints a
/// note and returns `None`.
fn small_disk() -> Option<Command> {
    const MOUNT: &str = "mkdir data && mount -t tmpfs -o size=16m none data && exec \"$@\"";
    let within = |rest: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", MOUNT, "sh"]).args(rest);
        command
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tried = within(&["true"]).current_dir(folder.path()).output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        harness::skip("a mount namespace", "the kernel or a sandbox refuses `unshare --user --mount`");
        return None;
    }
    Some(within(&[]))
}

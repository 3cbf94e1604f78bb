//! An event that ends the process of its follower, in a process of its own: this test program, once more.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use harness::Session;
use sqlx::Row as _;

use crate::fixture::{Control, Databases, Follower, Source, within_limit};

const SOURCE: &str = "FOLLOWER_OF";
const FOLDER: &str = "FOLLOWER_IN";
const READY: &str = "the copy is complete";
const SIGABRT: i32 = 6;

/// The follower. It ends only by its event.
#[tokio::test]
#[ignore = "runs in a process that event_that_aborts_its_process_is_parked starts"]
async fn follower_that_aborts() {
    let (Ok(source), Ok(folder)) = (std::env::var(SOURCE), std::env::var(FOLDER)) else { return };
    let network = ["registry=static".to_owned(), format!("static.things={source}"), format!("data_dir={folder}")];
    let aborts = Control { aborts: true.into(), ..Control::default() };
    let follower = Follower::start_in(tempfile::tempdir().unwrap(), network.into(), aborts.into()).await;
    while follower.copied.complete().is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("{READY}");
    std::future::pending().await
}

/// A process of the follower. A drop kills it.
struct Running(Child);

impl Running {
    fn start(source: SocketAddr, folder: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "abort::follower_that_aborts", "--include-ignored", "--nocapture"]);
        command.env(SOURCE, source.to_string()).env(FOLDER, folder).env("TMPDIR", folder);
        Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn is_ready(&mut self) -> bool {
        let lines = BufReader::new(self.0.stdout.take().unwrap()).lines();
        lines.map_while(Result::ok).any(|line| line.contains(READY))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the follower again each time that the event has ended it, until the event is parked. Returns how often it
/// did.
fn start_until_parked(mut running: Running, source: SocketAddr, folder: &Path) -> u32 {
    let mut database = Session::open(&format!("sqlite://{}/shelf.db", folder.display()));
    for aborts in 0..10 {
        let ended = harness::eventually("the event is parked, or the process ends", || {
            let parked = database.count("SELECT count(*) FROM mesh_parked_events") > 0;
            if parked { Some(None) } else { running.0.try_wait().unwrap().map(Some) }
        });
        let Some(ended) = ended else {
            harness::eventually("the rest is applied", || {
                (database.count("SELECT count(*) FROM effects WHERE name = 'two'") == 1).then_some(())
            });
            let parked = database.rows("SELECT key, error FROM mesh_parked_events", |row| (row.get(0), row.get(1)));
            let parked: Vec<(String, String)> = parked;
            assert_eq!(parked, [("abort".to_owned(), "the process ended in each attempt".to_owned())]);
            let applied: Vec<String> = database.rows("SELECT name FROM effects ORDER BY name", |row| row.get(0));
            assert_eq!(applied, ["one", "two"], "each once");
            return aborts;
        };
        assert_eq!(ended.signal(), Some(SIGABRT), "{ended}");
        running = Running::start(source, folder);
    }
    panic!("the event is not parked");
}

#[tokio::test]
async fn event_that_aborts_its_process_is_parked() {
    within_limit(async {
        let source = Source::start(&Databases::Sqlite).await;
        let (folder, address) = (tempfile::tempdir().unwrap(), source.address());
        let path = folder.path().to_owned();
        let start = move || {
            let mut running = Running::start(address, &path);
            assert!(running.is_ready());
            running
        };
        let running = tokio::task::spawn_blocking(start).await.unwrap();
        for name in ["one", "abort", "two"] {
            source.make(name).await;
        }
        let path = folder.path().to_owned();
        let aborts = tokio::task::spawn_blocking(move || start_until_parked(running, address, &path)).await.unwrap();
        // In a batch, unless the event was alone in it, and in each of three attempts.
        assert!((3..=4).contains(&aborts), "{aborts}");
    })
    .await;
}

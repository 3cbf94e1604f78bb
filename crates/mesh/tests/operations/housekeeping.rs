//! Work that a service starts itself, at an interval.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use harness::Session;
use mesh::operations::{Attempt, Work};
use mesh::testing::{Mesh, as_caller};
use mesh::{Config, Process, Service};
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::google::longrunning::{GetOperationRequest, ListOperationsRequest, Operation};
use mesh_proto::mesh::operations::v1::State;
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::fixture::{database, metadata, within_limit};

/// How a run goes.
#[derive(Clone, Copy, PartialEq)]
enum Run {
    Ends,
    Fails,
    /// Takes longer than the interval.
    IsLong,
    /// Takes as long as its process.
    Hangs,
}

/// Housekeeping that counts its attempts, and those that run at the same time.
struct Purge {
    run: Run,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    attempts: AtomicU32,
    running: AtomicU32,
    most: AtomicU32,
}

impl Work for Purge {
    const KIND: &'static str = "Purge";
    type Request = ();
    type Response = ();
    type Error = Status;

    async fn run(&self, _: &Attempt, (): ()) -> Result<(), Status> {
        let Counts { attempts, running, most } = &*self.counts;
        attempts.fetch_add(1, Ordering::SeqCst);
        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        match self.run {
            Run::IsLong => tokio::time::sleep(Duration::from_millis(1500)).await,
            Run::Hangs => std::future::pending().await,
            Run::Ends | Run::Fails => {}
        }
        running.fetch_sub(1, Ordering::SeqCst);
        if self.run == Run::Fails { Err(Status::failed_precondition("never")) } else { Ok(()) }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn service(interval: Duration, run: Run, counts: &Arc<Counts>) -> Service {
    let counts = Arc::clone(counts);
    Service::new("work", &[]).every(interval, move |_| Purge { run, counts })
}

async fn start(folder: TempDir, settings: &[String], interval: Duration, run: Run, counts: &Arc<Counts>) -> Mesh {
    Mesh::start_in(folder, settings, service(interval, run, counts)).await
}

fn get(run: &Operation) -> GetOperationRequest {
    GetOperationRequest { name: run.name.clone() }
}

/// All operations that a caller of whom nothing is known sees, the newest first.
async fn listed(mesh: &Mesh) -> Vec<Operation> {
    let request = ListOperationsRequest { name: "services/work".to_owned(), ..Default::default() };
    let list = OperationsClient::new(mesh.channel("work")).list_operations(request).await;
    list.unwrap().into_inner().operations
}

/// Waits until so many runs have ended, and returns all.
async fn ended(mesh: &Mesh, runs: usize) -> Vec<Operation> {
    loop {
        let listed = listed(mesh).await;
        if listed.iter().filter(|run| run.done).count() >= runs {
            return listed;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn state(run: &Operation) -> State {
    metadata(run).state()
}

/// In seconds, between the starts of neighbours.
fn pauses(runs: &[Operation]) -> Vec<f64> {
    let started = |run| metadata(run).create_time.map(|time| time.seconds as f64 + f64::from(time.nanos) / 1e9);
    runs.windows(2).map(|pair| started(&pair[0]).unwrap() - started(&pair[1]).unwrap()).collect()
}

#[tokio::test]
async fn run_is_due_at_the_interval_after_the_last_one_also_if_that_failed() {
    within_limit(async {
        for run in [Run::Ends, Run::Fails] {
            let counts = Arc::default();
            let mesh = start(tempfile::tempdir().unwrap(), &[], SECOND, run, &counts).await;
            let runs = ended(&mesh, 3).await;
            let expected = if run == Run::Ends { State::Succeeded } else { State::Failed };
            assert!(runs.iter().filter(|run| run.done).all(|run| state(run) == expected), "{runs:?}");
            assert!(pauses(&runs).iter().all(|pause| *pause >= 1.0), "{:?}", pauses(&runs));
            let client = OperationsClient::new(mesh.channel("work"));
            let of_others = as_caller("service/other", client.clone().get_operation(get(&runs[0]))).await;
            assert_eq!(of_others.unwrap_err().code(), Code::NotFound, "it belongs to the service");
            assert!(client.clone().get_operation(get(&runs[0])).await.is_ok(), "while nothing is known of callers");
            mesh.drain().await;
        }
    })
    .await;
}

#[tokio::test]
async fn restart_makes_no_run_due() {
    within_limit(async {
        let counts = Arc::default();
        let mesh = start(tempfile::tempdir().unwrap(), &[], HOUR, Run::Ends, &counts).await;
        let first = ended(&mesh, 1).await;
        let mesh = start(mesh.drain().await, &[], HOUR, Run::Ends, &counts).await;
        // Two looks of a kind whose run is due.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(listed(&mesh).await, first);
        // An hour later.
        let hour_ago = "UPDATE operations SET created = created - 3600000000";
        let folder = mesh.drain().await;
        let path = folder.path().join("work.db");
        tokio::task::spawn_blocking(move || Session::open(&format!("sqlite://{}", path.display())).execute(hour_ago))
            .await
            .unwrap();
        let mesh = start(folder, &[], HOUR, Run::Ends, &counts).await;
        assert_eq!(ended(&mesh, 2).await.len(), 2);
        assert_eq!(counts.attempts.load(Ordering::SeqCst), 2);
        mesh.drain().await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs Postgres: .ci/full"]
async fn one_replica_runs_at_a_time() {
    within_limit(async {
        let Some(url) = database().await else { return };
        let settings = [format!("services.work.database_url={url}")];
        let counts = Arc::default();
        let mut replicas = Vec::new();
        for _ in 0..3 {
            replicas.push(start(tempfile::tempdir().unwrap(), &settings, SECOND, Run::IsLong, &counts).await);
        }
        let runs = ended(&replicas[0], 4).await;
        assert_eq!(counts.most.load(Ordering::SeqCst), 1, "at the same time");
        assert!(pauses(&runs).iter().all(|pause| *pause >= 1.5), "{:?}", pauses(&runs));
        assert!(runs.iter().filter(|run| !run.done).count() <= 1, "{runs:?}");
        for replica in replicas {
            replica.drain().await;
        }
    })
    .await;
}

#[tokio::test]
async fn interval_that_cannot_be_kept_does_not_start() {
    let counts = Arc::default();
    for (interval, line) in [
        (Duration::from_millis(999), "Purge runs every 999ms: expected an interval of 1s at least"),
        (
            2 * HOUR,
            "Purge of `work` runs every 7200s, and its last run is kept for 3600s: set operations.keep to 7200s or more",
        ),
    ] {
        let process = Process::from(service(interval, Run::Ends, &counts));
        let folder = tempfile::tempdir().unwrap();
        let data_dir = format!("--data-dir={}", folder.path().display());
        let arguments = ["test", "--listen=127.0.0.1:0", "--set=operations.keep=1h", &data_dir].map(Into::into);
        let config = Config::load(&process, arguments, []).unwrap();
        assert_eq!(mesh::start(process, &config).await.err().unwrap().to_string(), line);
    }
}

const FOLDER: &str = "PURGE_IN";
const SETTING: &str = "PURGE_WITH";
const READY: &str = "the run hangs";

/// A process whose run hangs. It ends only by a signal.
#[tokio::test]
#[ignore = "runs in a process that run_of_a_killed_process_goes_on_in_the_next_one starts"]
async fn process_whose_run_hangs() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let counts = Arc::<Counts>::default();
    let settings = [std::env::var(SETTING).unwrap_or_else(|_| format!("data_dir={folder}"))];
    let _mesh = start(tempfile::tempdir().unwrap(), &settings, HOUR, Run::Hangs, &counts).await;
    while counts.running.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("{READY}");
    std::future::pending().await
}

/// A process of housekeeping. A drop kills it.
struct Hanging(Child);

impl Hanging {
    fn start(folder: &Path, setting: Option<&str>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "housekeeping::process_whose_run_hangs", "--include-ignored", "--nocapture"]);
        command
            .envs(setting.map(|setting| (SETTING, setting)))
            .env(FOLDER, folder)
            .env("TMPDIR", folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = Self(command.spawn().unwrap());
        let lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.contains(READY)), "the run began");
        process
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn run_of_a_killed_process_goes_on_in_the_next_one() {
    within_limit(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        // SIGKILL in the middle of the run.
        tokio::task::spawn_blocking(move || drop(Hanging::start(&path, None))).await.unwrap();
        let counts = Arc::default();
        let mesh = start(folder, &[], HOUR, Run::Ends, &counts).await;
        let runs = ended(&mesh, 1).await;
        assert_eq!((runs.len(), state(&runs[0]), metadata(&runs[0]).attempt), (1, State::Succeeded, 2), "the same run");
        mesh.drain().await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs Postgres: .ci/full"]
async fn run_of_a_killed_replica_goes_on_in_another_one() {
    within_limit(async {
        let Some(url) = database().await else { return };
        let setting = format!("services.work.database_url={url}");
        let folder = tempfile::tempdir().unwrap();
        let (path, with) = (folder.path().to_owned(), setting.clone());
        let hanging = tokio::task::spawn_blocking(move || Hanging::start(&path, Some(&with))).await.unwrap();
        let counts = Arc::default();
        let mesh = start(folder, &[setting], HOUR, Run::Ends, &counts).await;
        assert_eq!(listed(&mesh).await.len(), 1, "the other replica runs it");
        tokio::task::spawn_blocking(move || drop(hanging)).await.unwrap();
        // After the lease of the one that was killed.
        let runs = ended(&mesh, 1).await;
        assert_eq!((runs.len(), state(&runs[0]), metadata(&runs[0]).attempt), (1, State::Succeeded, 2), "the same run");
        mesh.drain().await;
    })
    .await;
}

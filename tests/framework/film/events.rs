//! Processes are killed while titles change: the events are those of the titles, at positions without holes.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contracts::catalog::v1::CreateTitleRequest;
use contracts::catalog::v1::catalog_service_client::CatalogServiceClient;
use harness::{PgBouncer, Postgres, Process, Session, eventually, uuid};
use sqlx::Row as _;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;

const ROUNDS: usize = 6;
const WRITERS: usize = 8;

/// The titles whose creation was answered, and their number.
#[derive(Default)]
struct Answered {
    titles: Mutex<Vec<String>>,
    number: AtomicUsize,
}

/// Creates titles until the process does not answer any more.
async fn write(address: String, answered: Arc<Answered>) {
    let channel = Endpoint::from_shared(address).expect("an address").connect_lazy();
    let mut catalog = CatalogServiceClient::new(channel);
    loop {
        let (request_id, name) = (uuid(), "Metropolis".to_owned());
        let request = CreateTitleRequest { request_id, name, year: 1927, ..CreateTitleRequest::default() };
        let Ok(response) = catalog.create_title(request).await else { return };
        let title = response.into_inner().title.expect("a title");
        answered.titles.lock().expect("no panic").push(title.title_id);
        answered.number.fetch_add(1, Ordering::Relaxed);
    }
}

fn begin_writing(runtime: &Runtime, process: &Process, answered: &Arc<Answered>) -> Vec<JoinHandle<()>> {
    let address = format!("http://{}", process.address);
    (0..WRITERS).map(|_| runtime.spawn(write(address.clone(), Arc::clone(answered)))).collect()
}

/// Kills one process after the other while it writes, and starts it again. Returns the processes, and the answered
/// titles.
fn kill_while_writing(mut processes: Vec<Process>, settings: &[(&str, &str)]) -> (Vec<Process>, Vec<String>) {
    let runtime = Runtime::new().expect("a runtime");
    let answered = Arc::new(Answered::default());
    let mut writers: Vec<_> = processes.iter().map(|process| begin_writing(&runtime, process, &answered)).collect();
    for round in 0..ROUNDS {
        let victim = round % processes.len();
        let until = answered.number.load(Ordering::Relaxed) + fastrand::usize(40..80);
        eventually("titles are written", || (answered.number.load(Ordering::Relaxed) > until).then_some(()));
        let killed = processes.swap_remove(victim).kill();
        for writer in writers.swap_remove(victim) {
            runtime.block_on(writer).expect("no panic");
        }
        let again = Process::start_in(killed, "catalog", settings);
        writers.push(begin_writing(&runtime, &again, &answered));
        processes.push(again);
    }
    writers.iter().flatten().for_each(JoinHandle::abort);
    runtime.shutdown_timeout(Duration::from_secs(1));
    let titles = answered.titles.lock().expect("no panic").clone();
    (processes, titles)
}

/// Checks the log against the titles and the answers.
fn check(database: &mut Session, answered: &[String]) {
    // The last calls may still run: their callers are gone.
    eventually("each title has one event, without a hole", || {
        let titles = database.count("SELECT count(*) FROM titles");
        let events = database.count("SELECT count(*) FROM events JOIN titles ON key = title_id");
        let keys = database.count("SELECT count(DISTINCT key) FROM events");
        let last = database.count("SELECT max(position) FROM events");
        let head = database.count("SELECT head FROM events_head");
        ([events, keys, last, head] == [titles; 4]).then_some(())
    });
    let known: Vec<String> = database.rows("SELECT key FROM events", |row| row.get(0));
    let known: HashSet<_> = known.into_iter().collect();
    assert!(answered.len() >= ROUNDS * 40);
    assert!(answered.iter().all(|title| known.contains(title)), "an answered title has no event");
}

#[test]
fn killed_process_leaves_the_events_of_its_titles() {
    let (mut processes, answered) = kill_while_writing(vec![Process::start("catalog", &[])], &[]);
    let process = processes.remove(0);
    let database = process.working_folder().join("data/catalog.db");
    check(&mut Session::open(&format!("sqlite://{}", database.display())), &answered);
}

/// Two replicas on a database of Postgres.
fn kill_replicas(database: &str, through: &str) {
    let settings = [("MESH__SERVICES__CATALOG__DATABASE_URL", through)];
    let replicas = vec![Process::start("catalog", &settings), Process::start("catalog", &settings)];
    let (_replicas, answered) = kill_while_writing(replicas, &settings);
    check(&mut Session::open(database), &answered);
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn killed_replica_leaves_the_events_of_its_titles() {
    let Some(postgres) = Postgres::shared() else { return };
    let url = postgres.database("events_killed");
    kill_replicas(&url, &url);
}

#[test]
#[ignore = "needs PgBouncer: .ci/full"]
fn killed_replica_leaves_the_events_of_its_titles_behind_a_pooler() {
    let Some(postgres) = Postgres::shared() else { return };
    let url = postgres.database("events_pooled");
    let Some(pooler) = PgBouncer::start(&url, 4) else { return };
    kill_replicas(&url, &pooler.through(&url));
}

//! The processes under test: the monolith on SQLite, or the catalog and replicas of artwork on Postgres.

use std::time::Duration;

use contracts::catalog::v1::CreateTitleRequest;
use contracts::catalog::v1::catalog_service_client::CatalogServiceClient;
use harness::film::smallest_picture;
use harness::{PgBouncer, Postgres, Process, Session, uuid};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;

use super::caller::Caller;
use super::evidence::{self, Evidence};
use super::recorder::{LIMIT, Recorder};

/// The processes, and what clients recorded of them.
pub(super) struct System {
    binary: &'static str,
    environment: Vec<(&'static str, String)>,
    replicas: Vec<Process>,
    /// The catalog, if it is a process of its own.
    _catalog: Option<Process>,
    /// The URL of artwork's database.
    pub(super) database: String,
    pub(super) title_id: String,
    pub(super) recorder: Recorder,
    runtime: Runtime,
}

impl System {
    /// Everything in one process, on SQLite.
    pub(super) fn sqlite() -> Self {
        Self::in_one(Process::start("monolith", &[]))
    }

    /// A monolith that the test has started.
    pub(super) fn in_one(process: Process) -> Self {
        let database = format!("sqlite://{}", process.folder.path().join("data/artwork.db").display());
        Self::new("monolith", Vec::new(), vec![process], None, database)
    }

    /// Replicas of artwork that share a database. Without an installed Postgres it prints a note and returns `None`.
    pub(super) fn postgres(replicas: usize) -> Option<Self> {
        Some(Self::on(Postgres::shared()?, replicas))
    }

    /// Like [`postgres`](Self::postgres), through a pooler with this number of sessions. `None` without a pooler, too.
    pub(super) fn pooled(replicas: usize, sessions: u32, more: &[(&'static str, &str)]) -> Option<(Self, PgBouncer)> {
        let database = new_database(Postgres::shared()?);
        let pooler = PgBouncer::start(&database, sessions)?;
        let more = more.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Some((Self::at(database.clone(), pooler.through(&database), replicas, more), pooler))
    }

    /// Like [`postgres`](Self::postgres), on a server that the test may stop.
    pub(super) fn on(server: &Postgres, replicas: usize) -> Self {
        let database = new_database(server);
        Self::at(database.clone(), database, replicas, Vec::new())
    }

    /// Replicas that reach the database at `url`.
    fn at(database: String, url: String, replicas: usize, more: Vec<(&'static str, String)>) -> Self {
        let catalog = Process::start("catalog", &[]);
        let mut environment = vec![
            ("MESH__REGISTRY", "static".to_owned()),
            ("MESH__STATIC__CATALOG", catalog.address.to_string()),
            ("MESH__SERVICES__ARTWORK__DATABASE_URL", url),
        ];
        environment.extend(more);
        let replicas = (0..replicas).map(|_| Process::start("artwork", &borrowed(&environment))).collect();
        Self::new("artwork", environment, replicas, Some(catalog), database)
    }

    fn new(
        binary: &'static str,
        environment: Vec<(&'static str, String)>,
        replicas: Vec<Process>,
        catalog: Option<Process>,
        database: String,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let address = catalog.as_ref().unwrap_or(&replicas[0]).address;
        let title_id = runtime.block_on(async {
            let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
            let (request_id, name) = (uuid(), "Metropolis".to_owned());
            let request = CreateTitleRequest { request_id, name, year: 1927, ..CreateTitleRequest::default() };
            let created = CatalogServiceClient::new(channel).create_title(request).await.expect("a title");
            created.into_inner().title.expect("a title").title_id
        });
        evidence::create_ledger(&database);
        let recorder = Recorder::new();
        Self { binary, environment, replicas, _catalog: catalog, database, title_id, recorder, runtime }
    }

    /// The first replica, or the only one.
    pub(super) fn process(&self) -> &Process {
        self.process_of(0)
    }

    pub(super) fn process_of(&self, index: usize) -> &Process {
        &self.replicas[index]
    }

    pub(super) fn replica(&mut self, index: usize) -> &mut Process {
        &mut self.replicas[index]
    }

    /// A client of the first replica, with the smallest picture.
    pub(super) fn caller(&self) -> Caller {
        self.caller_of(0)
    }

    /// A client of one replica.
    pub(super) fn caller_of(&self, index: usize) -> Caller {
        let _entered = self.runtime.enter();
        Caller::new(self.replicas[index].address, &self.title_id, &smallest_picture(), &self.recorder)
    }

    /// A client of the last replica, which may be the first.
    pub(super) fn last_caller(&self) -> Caller {
        self.caller_of(self.replicas.len() - 1)
    }

    pub(super) fn replicas(&self) -> usize {
        self.replicas.len()
    }

    /// Whether a replica has logged a line with `what` and the operation's name.
    pub(super) fn logs(&self, index: usize, what: &str, name: &str) -> bool {
        self.replicas[index].log().lines().any(|line| line.contains(what) && line.contains(name))
    }

    /// Runs a client, within [`LIMIT`].
    pub(super) fn run<T>(&self, client: impl Future<Output = T>) -> T {
        self.runtime.block_on(within_limit(client))
    }

    /// Pauses so that a fault happens at another moment each time; never to wait for readiness.
    pub(super) fn pause(&self, pause: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(pause).await });
    }

    /// Runs a client while the test goes on.
    pub(super) fn spawn<T: Send + 'static>(&self, client: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.runtime.spawn(client)
    }

    /// Waits for all clients, within [`LIMIT`], and returns their results.
    pub(super) fn join<T>(&self, clients: Vec<JoinHandle<T>>) -> Vec<T> {
        self.run(all(clients))
    }

    /// Waits for clients without a total limit: each of their steps has [`within_limit`].
    pub(super) fn join_all<T>(&self, clients: Vec<JoinHandle<T>>) -> Vec<T> {
        self.runtime.block_on(all(clients))
    }

    /// Kills a replica, runs `meanwhile`, and starts the replica again at the same address.
    pub(super) fn kill(&mut self, index: usize, meanwhile: impl FnOnce(&Self)) {
        self.replicas[index].signal("KILL");
        self.replicas[index].ended();
        meanwhile(self);
        self.start_again(index);
    }

    /// Ends a replica by a drain, and starts it again at the same address.
    pub(super) fn replace(&mut self, index: usize) {
        self.replicas[index].signal("TERM");
        let (status, _) = self.replicas[index].ended();
        assert_eq!(status.code(), Some(0), "the drain failed");
        self.start_again(index);
    }

    fn start_again(&mut self, index: usize) {
        let ended = &mut self.replicas[index];
        let (address, folder) = (ended.address.to_string(), ended.folder_left());
        let mut environment = borrowed(&self.environment);
        environment.push(("MESH__LISTEN", &address));
        *ended = Process::start_in(folder, self.binary, &environment);
    }

    /// Ends all leases, so that a test does not wait for those of a dead worker.
    pub(super) fn end_leases(&self) {
        Session::open(&self.database).execute("UPDATE operations SET lease_until = 0 WHERE state = 2");
    }

    /// Waits until all operations have ended, and asserts that the database is whole and agrees with the clients'
    /// records.
    pub(super) fn verdict(&self) -> Evidence {
        let mut session = Session::open(&self.database);
        let start = std::time::Instant::now();
        while session.count("SELECT count(*) FROM operations WHERE state < 3") > 0 {
            assert!(start.elapsed() < LIMIT, "some operations do not end");
            self.pause(Duration::from_millis(50));
        }
        let evidence = Evidence::collect(&self.database);
        evidence.assert_whole();
        evidence.assert_agrees(&self.recorder.read());
        evidence
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.recorder.keep();
        }
    }
}

/// Waits for one step, for [`LIMIT`] at most.
pub(super) async fn within_limit<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, step).await.expect("the step ends within the limit")
}

async fn all<T>(clients: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut all = Vec::new();
    for client in clients {
        all.push(client.await.expect("no client panics"));
    }
    all
}

fn new_database(server: &Postgres) -> String {
    server.database(&format!("artwork_{}", uuid().replace('-', "")))
}

fn borrowed<'a>(environment: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    environment.iter().map(|(name, value)| (*name, &**value)).collect()
}

//! The fixture of each test: a mesh with things, a mesh with a shelf that follows them, and a network between the two.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock, mpsc};
use std::time::{Duration, Instant};

use harness::Postgres;
use mesh::events::{Applying, Copied, Events as _, Follow};
use mesh::operations::{Attempt, Work};
use mesh::testing::Mesh;
use mesh::{Error, Migration, Service, Store};
use mesh_proto::grpc::health::v1::HealthCheckRequest;
use mesh_proto::grpc::health::v1::health_check_response::ServingStatus;
use mesh_proto::grpc::health::v1::health_client::HealthClient;
use prost::Message as _;
use prost_types::{
    DescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto,
};
use sqlx::Row as _;

use crate::desk::Desk;
use crate::things::{Made, THINGS, Thing, make, remove, snapshot};

/// The copy, and a line for each effect.
const SHELF: &[Migration] = &[Migration::new(
    1,
    "shelf",
    "CREATE TABLE shelved (name TEXT NOT NULL PRIMARY KEY, revision BIGINT NOT NULL, generation BIGINT NOT NULL);
    CREATE TABLE effects (event TEXT NOT NULL, name TEXT NOT NULL);",
)];

/// The contracts of both, so that their methods are known and the address of the source is a key of the configuration.
pub(crate) static CONTRACTS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let file =
        vec![contract("things", "Things", &["Make", "Drop", "Has"]), contract("shelf", "Shelf", &["Make", "Has"])];
    FileDescriptorSet { file }.encode_to_vec()
});

fn contract(package: &str, service: &str, methods: &[&str]) -> FileDescriptorProto {
    let message = format!(".{package}.v1.Thing");
    let method = |name: &&str| MethodDescriptorProto {
        name: Some((*name).to_owned()),
        input_type: Some(message.clone()),
        output_type: Some(message.clone()),
        ..MethodDescriptorProto::default()
    };
    let method = methods.iter().map(method).collect();
    FileDescriptorProto {
        name: Some(format!("{package}/v1/{package}.proto")),
        package: Some(format!("{package}.v1")),
        message_type: vec![DescriptorProto { name: Some("Thing".to_owned()), ..DescriptorProto::default() }],
        service: vec![ServiceDescriptorProto { name: Some(service.to_owned()), method, ..Default::default() }],
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    }
}

/// The follower of the things.
pub(crate) struct Shelf(Arc<Control>);

/// What a test does to one follower.
#[derive(Default)]
pub(crate) struct Control {
    /// It stands still before its next statement.
    pub(crate) stops: AtomicBool,
    /// It stands still.
    pub(crate) stopped: AtomicBool,
    /// Names that begin with `poison` fail for good, those with `panic` panic, those with `busy` fail for a while.
    /// Those that begin with `ignored` ignore the failure of a statement, always.
    pub(crate) fails: AtomicBool,
    /// Names that begin with `abort` end the process.
    pub(crate) aborts: AtomicBool,
    /// The number of calls of apply that failed so.
    pub(crate) failed: AtomicUsize,
    /// A sweep takes this many seconds.
    pub(crate) sweeps: AtomicUsize,
    /// The number of sweeps that began.
    pub(crate) swept: AtomicUsize,
}

impl Control {
    fn fail(&self, name: &str) -> Result<(), Error> {
        let kind = ["poison", "panic", "busy"].into_iter().find(|kind| name.starts_with(kind));
        let Some(kind) = kind.filter(|_| self.fails.load(Ordering::SeqCst)) else { return Ok(()) };
        self.failed.fetch_add(1, Ordering::SeqCst);
        match kind {
            "poison" => Err(sqlx::Error::Protocol("on purpose".to_owned()).into()),
            "panic" => panic!("on purpose"),
            _ => Err(sqlx::Error::PoolTimedOut.into()),
        }
    }
}

impl Follow for Shelf {
    const SOURCE: &'static str = "things";
    type Event = Thing;

    async fn apply(&self, tx: &mut Applying<'_>, event: Thing) -> Result<(), Error> {
        while self.0.stops.load(Ordering::SeqCst) {
            self.0.stopped.store(true, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if event.key().starts_with("abort") && self.0.aborts.load(Ordering::SeqCst) {
            std::process::abort();
        }
        self.0.fail(event.key())?;
        if event.key().starts_with("ignored") {
            let _ = sqlx::query("INSERT INTO nowhere (name) VALUES ('')").execute(&mut ***tx).await;
            return Ok(());
        }
        let (id, generation) = (tx.event_id(), tx.generation());
        let name = match event {
            Thing::Made(made) => {
                let put = "INSERT INTO shelved (name, revision, generation) VALUES ($1, $2, $3)
                    ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, generation = excluded.generation
                    WHERE shelved.generation < excluded.generation OR shelved.revision <= excluded.revision";
                let put = sqlx::query(put).bind(&made.name).bind(made.revision).bind(generation);
                put.execute(&mut ***tx).await?;
                made.name
            }
            Thing::Removed(removed) => {
                let remove = sqlx::query("DELETE FROM shelved WHERE name = $1").bind(&removed.name);
                remove.execute(&mut ***tx).await?;
                removed.name
            }
            Thing::Unknown(_) => return Ok(()),
        };
        if let Some(id) = id {
            let effect = sqlx::query("INSERT INTO effects (event, name) VALUES ($1, $2)").bind(id.to_string());
            effect.bind(name).execute(&mut ***tx).await?;
        }
        Ok(())
    }

    async fn sweep(&self, tx: &mut Applying<'_>, before: i64) -> Result<(), Error> {
        self.0.swept.fetch_add(1, Ordering::SeqCst);
        for _ in 0..10 * self.0.sweeps.load(Ordering::SeqCst) {
            // Postgres ends a transaction that is silent.
            sqlx::query("SELECT 1").fetch_one(&mut ***tx).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        sqlx::query("DELETE FROM shelved WHERE generation < $1").bind(before).execute(&mut ***tx).await?;
        Ok(())
    }
}

/// The databases of a test.
#[derive(Clone)]
pub(crate) enum Databases {
    Sqlite,
    /// The URLs of two new databases.
    Postgres([String; 2]),
}

impl Databases {
    /// Two new databases; `None`, with a note, if no Postgres is installed.
    pub(crate) async fn postgres() -> Option<Self> {
        // The start of a server blocks, so it runs outside of the runtime.
        let urls = tokio::task::spawn_blocking(|| {
            let server = Postgres::shared()?;
            Some(["things", "shelf"].map(|of| server.database(&format!("{of}_{}", uuid::Uuid::new_v4().simple()))))
        });
        urls.await.unwrap().map(Self::Postgres)
    }

    fn settings(&self, service: usize) -> Vec<String> {
        let name = ["things", "shelf"][service];
        match self {
            Self::Sqlite => Vec::new(),
            Self::Postgres(urls) => vec![format!("services.{name}.database_url={}", urls[service])],
        }
    }
}

/// Fails a test that takes longer than 120 s, such as one that waits for an event that never comes.
pub(crate) async fn within_limit(test: impl Future<Output = ()>) {
    let passed = tokio::time::timeout(Duration::from_secs(120), test).await;
    assert!(passed.is_ok(), "the test did not end within 120 s");
}

/// The source: a mesh with things.
pub(crate) struct Source {
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) store: Store,
}

/// Long work that is never started. It gets the resources of its service.
struct Idle;

impl Work for Idle {
    const KIND: &'static str = "Idle";
    type Request = Made;
    type Response = Made;
    type Error = Error;

    async fn run(&self, _: &Attempt, request: Made) -> Result<Made, Error> {
        Ok(request)
    }
}

/// The service that publishes things. `opened` gets its database.
pub(crate) fn things(opened: Arc<OnceLock<Store>>) -> Service {
    let service = Service::new("things", &CONTRACTS).owns(THINGS).publishes(snapshot).works(move |resources| {
        opened.get_or_init(|| resources.store());
        Idle
    });
    service.calls("shelf.v1.Shelf", &["Has"]).serves(Desk::<false>::new)
}

/// The service that keeps a copy of the things. `opened` gets its database and its copy.
pub(crate) fn shelf(control: Arc<Control>, opened: mpsc::Sender<(Store, Copied)>) -> Service {
    let service = Service::new("shelf", &CONTRACTS).owns(SHELF).follows(move |resources| {
        opened.send((resources.store(), resources.copy("things"))).unwrap();
        Shelf(control)
    });
    service.calls("things.v1.Things", &["Make"]).serves(Desk::<true>::new)
}

impl Source {
    pub(crate) async fn start(databases: &Databases) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), databases).await
    }

    async fn start_in(folder: tempfile::TempDir, databases: &Databases) -> Self {
        let opened = Arc::new(OnceLock::<Store>::new());
        let service = things(Arc::clone(&opened));
        let mesh = Arc::new(Mesh::start_in(folder, &databases.settings(0), service).await);
        let store = opened.get().unwrap().clone();
        Self { mesh, store }
    }

    /// Drains the mesh, and starts another with the same database.
    pub(crate) async fn restart(self, databases: &Databases) -> Self {
        let Self { mesh, store } = self;
        // It has the lock of an embedded database.
        drop(store);
        Self::start_in(Arc::into_inner(mesh).unwrap().drain().await, databases).await
    }

    pub(crate) async fn make(&self, name: &str) {
        make(&self.store, name).await.unwrap();
    }

    pub(crate) async fn remove(&self, name: &str) {
        remove(&self.store, name).await.unwrap();
    }

    /// Executes statements in a transaction.
    pub(crate) async fn execute(&self, statements: &'static str) {
        execute(&self.store, statements).await;
    }

    /// Writes an event into the log as it is. Nothing else is published meanwhile.
    pub(crate) async fn tell(&self, kind: &str, key: &str, payload: Vec<u8>) {
        let mut tx = self.store.begin().await.unwrap();
        let raise = sqlx::query("UPDATE events_head SET head = head + 1 RETURNING head");
        let position: i64 = raise.fetch_one(&mut *tx).await.unwrap().get(0);
        let insert = "INSERT INTO events (position, id, key, type, told, trace, correlation, causation, hops, payload)
            VALUES ($1, $2, $3, $4, 1, '', '', '', 0, $5)";
        let insert = sqlx::query(insert).bind(position).bind(uuid::Uuid::now_v7().to_string()).bind(key);
        insert.bind(kind).bind(payload).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// The things and their revisions.
    pub(crate) async fn things(&self) -> BTreeMap<String, i64> {
        let things = sqlx::query("SELECT name, revision FROM things").fetch_all(self.store.reader()).await.unwrap();
        things.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// The ids of all events, in order.
    pub(crate) async fn events(&self) -> Vec<String> {
        let events = sqlx::query("SELECT id FROM events ORDER BY position").fetch_all(self.store.reader()).await;
        events.unwrap().iter().map(|row| row.get(0)).collect()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.mesh.url().replace("http://", "").parse().unwrap()
    }
}

/// A follower: a mesh with a shelf.
pub(crate) struct Follower {
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) store: Store,
    pub(crate) copied: Copied,
    pub(crate) control: Arc<Control>,
    settings: Vec<String>,
}

/// A follower between two runs.
pub(crate) struct Stopped {
    folder: tempfile::TempDir,
    settings: Vec<String>,
}

impl Stopped {
    /// Starts again.
    pub(crate) async fn start(self, control: Arc<Control>) -> Follower {
        Follower::start_in(self.folder, self.settings, control).await
    }

    /// Starts again, with a source at another address. The follower stands still at its first event.
    pub(crate) async fn start_held_beside(mut self, source: SocketAddr) -> Follower {
        self.settings.push(format!("static.things={source}"));
        let held = Control { stops: true.into(), ..Control::default() };
        self.start(held.into()).await
    }
}

impl Follower {
    /// Starts in one process with its source.
    pub(crate) async fn start_with_source(databases: &Databases) -> (Source, Self) {
        let (opened, (sender, receiver)) = (Arc::new(OnceLock::new()), mpsc::channel());
        let control = Arc::<Control>::default();
        let settings = [databases.settings(0), databases.settings(1)].concat();
        let services = [things(Arc::clone(&opened)), shelf(Arc::clone(&control), sender)];
        let mesh = Arc::new(Mesh::start_in(tempfile::tempdir().unwrap(), &settings, services).await);
        let (store, copied) = receiver.recv().unwrap();
        let source = Source { mesh: Arc::clone(&mesh), store: opened.get().unwrap().clone() };
        (source, Self { mesh, store, copied, control, settings })
    }

    /// Starts in a process of its own, which finds the source at an address.
    pub(crate) async fn start(databases: &Databases, source: SocketAddr) -> Self {
        let network = ["registry=static".to_owned(), format!("static.things={source}")];
        Self::start_in(tempfile::tempdir().unwrap(), [databases.settings(1), network.into()].concat(), Arc::default())
            .await
    }

    pub(crate) async fn start_in(folder: tempfile::TempDir, settings: Vec<String>, control: Arc<Control>) -> Self {
        let (sender, receiver) = mpsc::channel();
        let service = shelf(Arc::clone(&control), sender);
        let mesh = Arc::new(Mesh::start_in(folder, &settings, service).await);
        let (store, copied) = receiver.recv().unwrap();
        Self { mesh, store, copied, control, settings }
    }

    /// Drains the mesh.
    pub(crate) async fn stop(self) -> Stopped {
        let Self { mesh, settings, .. } = self;
        Stopped { folder: Arc::into_inner(mesh).unwrap().drain().await, settings }
    }

    /// Drains the mesh, and starts another with the same database.
    pub(crate) async fn restart(self) -> Self {
        self.stop().await.start(Arc::default()).await
    }

    /// Starts a second mesh with the same Postgres database.
    pub(crate) async fn replica(&self) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), self.settings.clone(), Arc::default()).await
    }

    /// The value of a metric of the follower; `None` without one.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let (address, series) = (self.mesh.url().replace("http://", ""), format!("{name}{{"));
        let page = tokio::task::spawn_blocking(move || {
            let mut connection = std::net::TcpStream::connect(address).unwrap();
            connection.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
            let mut page = String::new();
            connection.read_to_string(&mut page).unwrap();
            page
        });
        let page = page.await.unwrap();
        let line = page.lines().find(|line| line.starts_with(&series) && line.contains("source=\"things\""))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Waits until the copy equals the things of the source.
    pub(crate) async fn equals(&self, source: &Source) {
        let things = source.things().await;
        let start = Instant::now();
        loop {
            let copy = self.copy().await;
            if copy == things && self.copied.complete().is_ok() {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{copy:?} is not {things:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The copy: names and revisions.
    pub(crate) async fn copy(&self) -> BTreeMap<String, i64> {
        let shelved = sqlx::query("SELECT name, revision FROM shelved").fetch_all(self.store.reader()).await.unwrap();
        shelved.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// The ids of the events that took effect, sorted.
    pub(crate) async fn effects(&self) -> Vec<String> {
        let effects = sqlx::query("SELECT event FROM effects ORDER BY event").fetch_all(self.store.reader()).await;
        effects.unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// A number in the database.
    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query(query).fetch_one(self.store.reader()).await.unwrap().get(0)
    }

    /// Waits until a query returns `expected`.
    pub(crate) async fn until(&self, query: &'static str, expected: i64) {
        let start = Instant::now();
        while self.count(query).await != expected {
            assert!(start.elapsed() < Duration::from_secs(60), "{query}: {}", self.count(query).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Executes statements in a transaction.
    pub(crate) async fn execute(&self, statements: &'static str) {
        execute(&self.store, statements).await;
    }

    pub(crate) async fn is_ready(&self) -> bool {
        let mut health = HealthClient::connect(self.mesh.url()).await.unwrap();
        let answer = health.check(HealthCheckRequest { service: String::new() }).await.unwrap();
        answer.into_inner().status() == ServingStatus::Serving
    }
}

async fn execute(store: &Store, statements: &'static str) {
    let mut tx = store.begin().await.unwrap();
    sqlx::raw_sql(statements).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

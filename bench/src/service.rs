//! The service under test, with one kind of work at a time: the workers of a second kind would take turns with it.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mesh::operations::Start;
use mesh::operations::{Attempt, Work};
use mesh::testing::Mesh;
use mesh::{Migration, Operations, Service, Store};
use tokio::sync::{Mutex, Semaphore, oneshot};
use tonic::Status;
use uuid::Uuid;

use crate::machine::Place;

/// The row of the service's own that it stores with an operation.
pub(crate) const THING: &str = "INSERT INTO things (id, name, created) VALUES ($1, $2, $3)";
const MIGRATIONS: &[Migration] = &[Migration::new(
    1,
    "things",
    "CREATE TABLE things (id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL, created BIGINT NOT NULL);",
)];

/// Requests, responses and progress: a message type that always exists.
pub(crate) type Message = prost_types::Duration;

/// A mesh with that service, and the service's resources.
pub(crate) struct Site {
    pub(crate) mesh: Mesh,
    pub(crate) operations: Operations,
    pub(crate) store: Store,
}

impl Site {
    pub(crate) async fn start<W: Work>(place: &Place, work: W) -> anyhow::Result<Self> {
        let (sender, resources) = mpsc::channel();
        let service = Service::new("bench", &[]).owns(MIGRATIONS).works(move |resources| {
            // If the receiver is gone, the start has already failed.
            let _ = sender.send((resources.operations(), resources.store()));
            work
        });
        let folder = tempfile::tempdir_in(&place.folder)?;
        let database = format!("services.bench.database_url={}", place.url);
        // The measurement is of a stream's cost, not of the limits.
        let limits = ["limits.streams=1000000", "limits.connections=1000000", "edge.streams_per_client=100000"];
        let settings: Vec<_> = limits.into_iter().map(ToOwned::to_owned).chain([database]).collect();
        let mesh = Mesh::start_in(folder, &settings, service).await;
        let (operations, store) = resources.recv().context("the service was not built")?;
        Ok(Self { mesh, operations, store })
    }

    /// Starts an operation as a handler does, alone or in a transaction with a row of the service's own.
    pub(crate) async fn begin<W: Work<Request = Message>>(&self, thing: bool) -> anyhow::Result<String> {
        let (id, request) = (Uuid::new_v4(), Message::default());
        let start = Start::<W>::new(id, &request);
        if !thing {
            return Ok(self.operations.start(&start).await?.name);
        }
        let mut tx = self.store.begin().await?;
        let insert = sqlx::query(THING).bind(id.to_string()).bind("thing").bind(mesh::store::now());
        insert.execute(&mut *tx).await?;
        let operation = self.operations.start_in(&mut tx, &start).await?;
        tx.commit().await?;
        Ok(operation.name)
    }
}

/// Work that no worker runs, to measure starts alone.
pub(crate) struct Undone;

impl Work for Undone {
    const KIND: &'static str = "Undone";
    const CONCURRENCY: usize = 0;
    type Request = Message;
    type Response = Message;
    type Error = Status;

    async fn run(&self, _: &Attempt, request: Message) -> Result<Message, Status> {
        Ok(request)
    }
}

/// Work without content. Each start takes a slot first, and the work releases it.
pub(crate) struct Instantly {
    pub(crate) slots: Arc<Semaphore>,
}

impl Work for Instantly {
    const KIND: &'static str = "Instantly";
    const CONCURRENCY: usize = 64;
    type Request = Message;
    type Response = Message;
    type Error = Status;

    async fn run(&self, _: &Attempt, request: Message) -> Result<Message, Status> {
        self.slots.add_permits(1);
        Ok(request)
    }
}

/// The times when a step's commit was called and when it returned.
pub(crate) struct Committed {
    pub(crate) called: Instant,
    pub(crate) returned: Instant,
}

/// Work that commits a step on request.
pub(crate) struct Asked {
    pub(crate) asked: Mutex<tokio::sync::mpsc::Receiver<oneshot::Sender<Committed>>>,
}

impl Work for Asked {
    const KIND: &'static str = "Asked";
    type Request = Message;
    type Response = Message;
    type Error = Status;

    async fn run(&self, attempt: &Attempt, request: Message) -> Result<Message, Status> {
        let mut asked = self.asked.lock().await;
        for step in 1.. {
            let Some(answer) = asked.recv().await else { break };
            let (name, progress) = (step.to_string(), Message { seconds: step, nanos: 0 });
            let step = attempt.step(&name).await?;
            let called = Instant::now();
            step.commit(&progress, &progress).await?;
            let _ = answer.send(Committed { called, returned: Instant::now() });
        }
        Ok(request)
    }
}

/// Work that commits one step after the other, as fast as they become durable. Progress outside of steps is reported
/// ten times a second at most.
pub(crate) struct Reporting;

impl Work for Reporting {
    const KIND: &'static str = "Reporting";
    const DEADLINE: Duration = Duration::from_secs(24 * 3600);
    const CONCURRENCY: usize = 64;
    type Request = Message;
    type Response = Message;
    type Error = Status;

    async fn run(&self, attempt: &Attempt, request: Message) -> Result<Message, Status> {
        for step in 1.. {
            let (name, progress) = (step.to_string(), Message { seconds: step, nanos: 0 });
            attempt.step(&name).await?.commit(&progress, &progress).await?;
        }
        Ok(request)
    }
}

//! The fixture of each test: a mesh that does long work, and a client.
//!
//! The work starts with a `Duration` and ends with one, so that it needs no contract of a service.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use mesh::operations::Start;
use mesh::operations::{Attempt, Ended, Work};
use mesh::testing::Mesh;
use mesh::{Operations, Service, Store};
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::google::longrunning::{
    CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, Operation, WaitOperationRequest, operation,
};
use mesh_proto::mesh::operations::v1::operation_events_service_client::OperationEventsServiceClient;
use mesh_proto::mesh::operations::v1::{OperationMetadata, Progress, State, WatchRequest, watch_response};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use harness::Postgres;

use crate::rent::{self, Rent};

/// Work with one step for each second of its request. The nanoseconds of the request select how it ends.
pub(crate) struct Steps {
    attempts: Arc<AtomicU32>,
    cleaned: Cleaned,
    /// A channel to a peer, as services hold one. It must not keep the mesh alive.
    _peer: mesh::Channel,
}

/// The operations whose clean-up has begun, each run once. Shared by the meshes of a test.
pub(crate) type Cleaned = Arc<Mutex<Vec<String>>>;

pub(crate) const SUCCEED: i32 = 0;
pub(crate) const FAIL_ONCE: i32 = 1;
pub(crate) const FAIL_FOR_GOOD: i32 = 2;
pub(crate) const PANIC: i32 = 3;
pub(crate) const HANG: i32 = 4;
pub(crate) const REPORT: i32 = 5;
pub(crate) const REPORT_AND_HANG: i32 = 6;
/// Ends as with `FAIL_FOR_GOOD`; its clean-up fails once.
pub(crate) const CLEAN_TWICE: i32 = 7;
/// Ends as with `FAIL_FOR_GOOD`; its first clean-up hangs.
pub(crate) const HANG_IN_CLEAN_UP: i32 = 8;
/// Fails once, and ends with whether the key of both attempts is the same, and with its version.
pub(crate) const KEY: i32 = 9;

impl Work for Steps {
    const KIND: &'static str = "Steps";
    const ATTEMPTS: u32 = 2;
    const CONCURRENCY: usize = 16;
    type Request = prost_types::Duration;
    type Response = prost_types::Duration;
    type Error = Status;

    async fn run(&self, attempt: &Attempt, request: prost_types::Duration) -> Result<prost_types::Duration, Status> {
        let before = self.attempts.fetch_add(1, Ordering::SeqCst);
        for step in 1..=request.seconds {
            let name = step.to_string();
            if attempt.finished::<prost_types::Duration>(&name).await?.is_none() {
                let done = prost_types::Duration { seconds: step, nanos: 0 };
                attempt.step(&name).await?.commit(&done, &done).await?;
            }
        }
        match request.nanos {
            FAIL_ONCE if before == 0 => Err(Status::unavailable("not now")),
            FAIL_FOR_GOOD | CLEAN_TWICE | HANG_IN_CLEAN_UP => {
                Err(mesh::error::status(Code::FailedPrecondition, "work", "NEVER", "never"))
            }
            KEY => {
                let key = attempt.idempotency_key("charge");
                let now = prost_types::Duration { seconds: (key.as_u128() >> 64) as i64, nanos: 0 };
                let Some(first) = attempt.finished::<prost_types::Duration>("key").await? else {
                    attempt.step("key").await?.commit(&now, &now).await?;
                    return Err(Status::unavailable("not now"));
                };
                Ok(prost_types::Duration { seconds: i64::from(first == now), nanos: key.get_version_num() as i32 })
            }
            PANIC => panic!("on purpose"),
            HANG => std::future::pending().await,
            then @ (REPORT | REPORT_AND_HANG) => {
                for report in 1..=500 {
                    attempt.progress(&prost_types::Duration { seconds: report, nanos: 0 }).await?;
                }
                if then == REPORT { Ok(request) } else { std::future::pending().await }
            }
            _ => Ok(request),
        }
    }

    async fn clean_up(&self, ended: &Ended, request: prost_types::Duration) -> Result<(), Status> {
        // The results of its steps are kept until here.
        for step in 1..=request.seconds {
            assert!(ended.finished::<prost_types::Duration>(&step.to_string()).await?.is_some());
        }
        let again = {
            let mut cleaned = self.cleaned.lock().unwrap();
            cleaned.push(ended.name());
            cleaned.iter().filter(|name| **name == ended.name()).count() > 1
        };
        match request.nanos {
            CLEAN_TWICE if !again => Err(Status::internal("not yet")),
            HANG_IN_CLEAN_UP if !again => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

/// Another kind of work, which returns its request.
pub(crate) struct Echo;

impl Work for Echo {
    const KIND: &'static str = "Echo";
    type Request = prost_types::Duration;
    type Response = prost_types::Duration;
    type Error = Status;

    async fn run(&self, _: &Attempt, request: prost_types::Duration) -> Result<prost_types::Duration, Status> {
        Ok(request)
    }
}

/// A mesh with one service that does `Steps` and `Echo`, the resources of that service, and a client.
pub(crate) struct Fixture {
    pub(crate) mesh: Mesh,
    pub(crate) operations: Operations,
    pub(crate) store: Store,
    pub(crate) attempts: Arc<AtomicU32>,
    pub(crate) cleaned: Cleaned,
    pub(crate) channel: Channel,
    settings: Vec<String>,
}

fn service(attempts: Arc<AtomicU32>, cleaned: Cleaned, resources_sender: mpsc::Sender<(Operations, Store)>) -> Service {
    let steps = Service::new("work", &[]).owns(rent::SCHEMA).works(move |resources| {
        resources_sender.send((resources.operations(), resources.store())).unwrap();
        Steps { attempts, cleaned, _peer: resources.channel("work") }
    });
    let steps = steps.runs(|resources| Rent::<3600> { store: resources.store() });
    steps.runs(|resources| Rent::<2> { store: resources.store() }).works(|_| Echo)
}

/// Fails a test that takes longer than 120 s, such as one that waits for an event that never comes.
pub(crate) async fn within_limit(test: impl Future<Output = ()>) {
    // `scripts/soak` races more often.
    let limit = Duration::from_secs(if std::env::var_os("SOAK_RACES").is_some() { 3600 } else { 120 });
    let passed = tokio::time::timeout(limit, test).await;
    assert!(passed.is_ok(), "the test did not end within {limit:?}");
}

/// The URL of a new Postgres database; `None`, with a note, if no Postgres is installed.
pub(crate) async fn database() -> Option<String> {
    // The start of a server blocks, so it runs outside of the runtime.
    let url = tokio::task::spawn_blocking(|| {
        let name = format!("mesh_{}", uuid::Uuid::new_v4().simple());
        Postgres::shared().map(|server| server.database(&name))
    });
    url.await.unwrap()
}

impl Fixture {
    pub(crate) async fn sqlite() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), Arc::default(), Arc::default(), Vec::new()).await
    }

    /// Starts on the database in a folder.
    pub(crate) async fn in_folder(folder: tempfile::TempDir) -> Self {
        Self::start_in(folder, Arc::default(), Arc::default(), Vec::new()).await
    }

    /// Starts on a new Postgres database; `None`, with a note, if no Postgres is installed.
    pub(crate) async fn postgres() -> Option<Self> {
        let settings = vec![format!("services.work.database_url={}", database().await?)];
        Some(Self::start_in(tempfile::tempdir().unwrap(), Arc::default(), Arc::default(), settings).await)
    }

    async fn start_in(
        folder: tempfile::TempDir,
        attempts: Arc<AtomicU32>,
        cleaned: Cleaned,
        settings: Vec<String>,
    ) -> Self {
        let (sender, receiver) = mpsc::channel();
        let mesh =
            Mesh::start_in(folder, &settings, service(Arc::clone(&attempts), Arc::clone(&cleaned), sender)).await;
        let (operations, store) = receiver.recv().unwrap();
        let channel = Channel::from_shared(mesh.url()).unwrap().connect().await.unwrap();
        Self { mesh, operations, store, attempts, cleaned, channel, settings }
    }

    /// Drains the mesh, and starts another with the same database.
    pub(crate) async fn restart(self) -> Self {
        let Self { mesh, attempts, cleaned, operations, store, settings, .. } = self;
        drop((operations, store));
        let folder = mesh.drain().await;
        Self::start_in(folder, attempts, cleaned, settings).await
    }

    /// Drains the mesh, and starts another with the same database and address.
    pub(crate) async fn restart_at_same_address(mut self) -> Self {
        let address = self.mesh.url().replace("http://", "services.work.listen=");
        self.settings.push(address);
        self.restart().await
    }

    /// Starts a second mesh with the same Postgres database.
    pub(crate) async fn replica(&self) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), Arc::default(), Arc::default(), self.settings.clone()).await
    }

    pub(crate) async fn start(&self, steps: i64, then: i32) -> String {
        self.start_kind::<Steps>(prost_types::Duration { seconds: steps, nanos: then }).await
    }

    /// Starts an operation that stays pending, since no worker knows its kind.
    pub(crate) async fn start_delayed(&self) -> String {
        let (id, request) = (uuid::Uuid::new_v4(), prost_types::Duration { seconds: 0, nanos: HANG });
        let mut tx = self.store.begin().await.unwrap();
        let operation = self.operations.start_in(&mut tx, &Start::<Steps>::new(id, &request)).await.unwrap();
        let later = sqlx::query("UPDATE operations SET kind = 'Later' WHERE request_id = $1").bind(id.to_string());
        later.execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        operation.name
    }

    /// Makes a delayed operation claimable, and waits until it is running.
    pub(crate) async fn release(&self, name: &str) {
        let mut tx = self.store.begin().await.unwrap();
        let now = sqlx::query("UPDATE operations SET kind = 'Steps' WHERE id = $1").bind(name.rsplit('/').next());
        now.execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        self.running(name).await;
    }

    pub(crate) async fn start_kind<W: Work>(&self, request: W::Request) -> String {
        self.start_as(&Start::<W>::new(uuid::Uuid::new_v4(), &request)).await
    }

    pub(crate) async fn start_as<W>(&self, start: &Start<'_, W>) -> String {
        loop {
            match self.operations.start(start).await {
                Ok(operation) => return operation.name,
                // An overloaded machine: retry, as callers do.
                Err(mesh::store::Error::Unavailable(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    pub(crate) async fn get(&self, name: &str) -> Operation {
        self.find(name).await.unwrap()
    }

    pub(crate) async fn find(&self, name: &str) -> Result<Operation, Status> {
        let request = GetOperationRequest { name: name.to_owned() };
        Ok(OperationsClient::new(self.channel.clone()).get_operation(request).await?.into_inner())
    }

    pub(crate) async fn wait(&self, name: &str) -> Operation {
        let timeout = Some(prost_types::Duration { seconds: 30, nanos: 0 });
        let request = WaitOperationRequest { name: name.to_owned(), timeout };
        let mut operations = OperationsClient::new(self.channel.clone());
        for _ in 0..3 {
            let operation = operations.wait_operation(request.clone()).await.unwrap().into_inner();
            if operation.done {
                return operation;
            }
        }
        panic!("{name} did not end");
    }

    pub(crate) async fn cancel(&self, name: &str) {
        let request = CancelOperationRequest { name: name.to_owned() };
        OperationsClient::new(self.channel.clone()).cancel_operation(request).await.unwrap();
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<(), Status> {
        let request = DeleteOperationRequest { name: name.to_owned() };
        OperationsClient::new(self.channel.clone()).delete_operation(request).await.map(drop)
    }

    /// Waits until the operation is running.
    pub(crate) async fn running(&self, name: &str) {
        let mut watch = self.watch(name, Vec::new()).await;
        while metadata(&watch.next().await.unwrap().1).state() != State::Running {}
    }

    pub(crate) async fn watch(&self, name: &str, cursor: Vec<u8>) -> Watch {
        watch(self.channel.clone(), name, cursor).await
    }

    /// Changes rows directly in the database.
    pub(crate) async fn tamper(&self, set: &'static str) {
        let mut tx = self.store.begin().await.unwrap();
        sqlx::query(set).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Waits until a query returns `expected`.
    pub(crate) async fn until(&self, count: &'static str, expected: i64) {
        let start = std::time::Instant::now();
        loop {
            let counted: i64 = sqlx::query_scalar(count).fetch_one(self.store.reader()).await.unwrap();
            if counted == expected {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{count}: {counted}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The cursor behind a revision of an operation.
    pub(crate) async fn cursor(&self, name: &str, revision: i64) -> Vec<u8> {
        let first = self.watch(name, Vec::new()).await.next().await.unwrap().0;
        // A cursor ends with the revision, big-endian.
        [&first[..first.len() - 8], &revision.to_be_bytes()].concat()
    }

    /// The history of a done operation: every revision but the first.
    pub(crate) async fn history(&self, name: &str) -> Vec<Operation> {
        let mut watch = self.watch(name, self.cursor(name, 1).await).await;
        let mut history = Vec::new();
        while let Some((_, operation)) = watch.next().await {
            history.push(operation);
        }
        history
    }
}

pub(crate) async fn watch(channel: Channel, name: &str, cursor: Vec<u8>) -> Watch {
    let request =
        WatchRequest { name: name.to_owned(), cursor, progress: Progress::All.into(), ..WatchRequest::default() };
    Watch { stream: OperationEventsServiceClient::new(channel).watch(request).await.unwrap().into_inner() }
}

pub(crate) struct Watch {
    pub(crate) stream: tonic::Streaming<mesh_proto::mesh::operations::v1::WatchResponse>,
}

impl Watch {
    /// The next state of the operation, and its cursor; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<(Vec<u8>, Operation)> {
        loop {
            let frame = self.stream.message().await.unwrap()?;
            match frame.event.unwrap() {
                watch_response::Event::Snapshot(operation) | watch_response::Event::Update(operation) => {
                    return Some((frame.cursor, operation));
                }
                watch_response::Event::Heartbeat(_) => {}
                watch_response::Event::Gap(_) => panic!("a gap"),
            }
        }
    }
}

pub(crate) fn metadata(operation: &Operation) -> OperationMetadata {
    operation.metadata.as_ref().unwrap().to_msg().unwrap()
}

pub(crate) fn states(history: &[Operation]) -> Vec<State> {
    history.iter().map(|operation| metadata(operation).state()).collect()
}

/// The code and the reason of a refused call.
pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), status.get_error_details().error_info().unwrap().reason.clone())
}

pub(crate) fn failure(operation: Operation) -> (Code, String) {
    let Some(operation::Result::Error(error)) = operation.result else { panic!("{operation:?}") };
    let status = Status::with_details(error.code.into(), "", prost::Message::encode_to_vec(&error).into());
    (status.code(), status.get_error_details().error_info().unwrap().reason.clone())
}

/// Checks that a history has dense revisions and one end, at its last revision.
pub(crate) fn assert_whole(history: &[Operation]) {
    let revisions: Vec<_> = history.iter().map(|operation| metadata(operation).revision).collect();
    let dense: Vec<_> = (2..).take(history.len()).collect();
    assert_eq!(revisions, dense);
    let ends: Vec<_> = history.iter().map(|operation| operation.done).collect();
    assert_eq!(ends.iter().filter(|done| **done).count(), 1);
    assert!(ends.last().unwrap());
}

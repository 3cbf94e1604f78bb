//! What the kit promises about long work, on a real mesh with a real database. The work itself is made up: it is
//! started with a `Duration` and ends with one, so that no service's contract is needed.

#![expect(clippy::unwrap_used, reason = "a test has nothing better to do")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};

use contracts::google::longrunning::operations_client::OperationsClient;
use contracts::google::longrunning::{
    CancelOperationRequest, GetOperationRequest, ListOperationsRequest, Operation, WaitOperationRequest, operation,
};
use contracts::mesh::operations::v1::operation_events_service_client::OperationEventsServiceClient;
use contracts::mesh::operations::v1::{OperationMetadata, Progress, State, WatchRequest, watch_response};
use mesh::operations::work::Start;
use mesh::operations::{Context, Work};
use mesh::testing::Mesh;
use mesh::{Operations, Service, Store};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Does as many steps as its request has seconds, then what its request's nanoseconds say.
struct Steps {
    attempts: Arc<AtomicU32>,
    /// As a service that calls a peer has it: it must not keep the mesh alive.
    _peer: mesh::Channel,
}

const SUCCEED: i32 = 0;
const FAIL_ONCE: i32 = 1;
const FAIL_FOR_GOOD: i32 = 2;
const PANIC: i32 = 3;
const HANG: i32 = 4;
const TELL: i32 = 5;

impl Work for Steps {
    const KIND: &'static str = "Steps";
    const ATTEMPTS: u32 = 2;
    const CONCURRENCY: usize = 16;
    type Request = prost_types::Duration;
    type Response = prost_types::Duration;
    type Error = Status;

    async fn run(&self, context: &Context, request: prost_types::Duration) -> Result<prost_types::Duration, Status> {
        let attempt = self.attempts.fetch_add(1, Ordering::SeqCst);
        for step in 1..=request.seconds {
            let name = step.to_string();
            if context.finished::<prost_types::Duration>(&name).await?.is_none() {
                let done = prost_types::Duration { seconds: step, nanos: 0 };
                context.step(&name).await?.commit(&done, &done).await?;
            }
        }
        match request.nanos {
            FAIL_ONCE if attempt == 0 => Err(Status::unavailable("not now")),
            FAIL_FOR_GOOD => Err(mesh::error::status(Code::FailedPrecondition, "work", "NEVER", "never")),
            PANIC => panic!("on purpose"),
            HANG => std::future::pending().await,
            TELL => {
                for told in 1..=500 {
                    context.progress(&prost_types::Duration { seconds: told, nanos: 0 }).await?;
                }
                Ok(request)
            }
            _ => Ok(request),
        }
    }
}

/// A mesh with one service that does `Steps`, and what a service has in its hands.
struct Bench {
    mesh: Mesh,
    operations: Operations,
    store: Store,
    attempts: Arc<AtomicU32>,
    channel: Channel,
}

fn service(attempts: Arc<AtomicU32>, hands: mpsc::Sender<(Operations, Store)>) -> Service {
    Service::new("work").works(move |resources| {
        hands.send((resources.operations(), resources.store())).unwrap();
        Steps { attempts, _peer: resources.channel("work") }
    })
}

impl Bench {
    async fn start() -> Self {
        Self::on(Arc::default(), |service| Box::pin(Mesh::start(service))).await
    }

    async fn on(
        attempts: Arc<AtomicU32>,
        start: impl FnOnce(Service) -> std::pin::Pin<Box<dyn Future<Output = Mesh>>>,
    ) -> Self {
        let (sender, receiver) = mpsc::channel();
        let mesh = start(service(Arc::clone(&attempts), sender)).await;
        let (operations, store) = receiver.recv().unwrap();
        let channel = Channel::from_shared(mesh.url()).unwrap().connect().await.unwrap();
        Self { mesh, operations, store, attempts, channel }
    }

    /// Ends the process well, and starts another at the same database.
    async fn restart(self) -> Self {
        let Self { mesh, attempts, operations, store, .. } = self;
        drop((operations, store));
        let folder = mesh.drain().await;
        Self::on(attempts, |service| Box::pin(Mesh::start_in(folder, service))).await
    }

    async fn begin(&self, steps: i64, then: i32) -> String {
        let request = prost_types::Duration { seconds: steps, nanos: then };
        let id = uuid::Uuid::new_v4().to_string();
        let mut tx = self.store.begin().await.unwrap();
        let operation = self.operations.start(&mut tx, &Start::<Steps>::new(&id, &request)).await.unwrap();
        tx.commit().await.unwrap();
        operation.name
    }

    async fn get(&self, name: &str) -> Operation {
        let request = GetOperationRequest { name: name.to_owned() };
        OperationsClient::new(self.channel.clone()).get_operation(request).await.unwrap().into_inner()
    }

    async fn wait(&self, name: &str) -> Operation {
        let timeout = Some(prost_types::Duration { seconds: 30, nanos: 0 });
        let request = WaitOperationRequest { name: name.to_owned(), timeout };
        let operation = OperationsClient::new(self.channel.clone()).wait_operation(request).await.unwrap().into_inner();
        assert!(operation.done, "{operation:?}");
        operation
    }

    async fn cancel(&self, name: &str) {
        let request = CancelOperationRequest { name: name.to_owned() };
        OperationsClient::new(self.channel.clone()).cancel_operation(request).await.unwrap();
    }

    /// Until the operation is being worked on.
    async fn running(&self, name: &str) {
        let mut watch = self.watch(name, Vec::new()).await;
        while metadata(&watch.next().await.unwrap().1).state() != State::Running {}
    }

    async fn watch(&self, name: &str, cursor: Vec<u8>) -> Watch {
        watch(self.channel.clone(), name, cursor).await
    }

    /// The whole history of an operation that is done: every revision but the first.
    async fn history(&self, name: &str) -> Vec<Operation> {
        let first = self.watch(name, Vec::new()).await.next().await.unwrap().0;
        // A cursor ends with its revision, big-endian.
        let begin = [&first[..first.len() - 8], &1_i64.to_be_bytes()].concat();
        let mut watch = self.watch(name, begin).await;
        let mut history = Vec::new();
        while let Some((_, operation)) = watch.next().await {
            history.push(operation);
        }
        history
    }
}

async fn watch(channel: Channel, name: &str, cursor: Vec<u8>) -> Watch {
    let request =
        WatchRequest { name: name.to_owned(), cursor, progress: Progress::All.into(), ..WatchRequest::default() };
    Watch { stream: OperationEventsServiceClient::new(channel).watch(request).await.unwrap().into_inner() }
}

struct Watch {
    stream: tonic::Streaming<contracts::mesh::operations::v1::WatchResponse>,
}

impl Watch {
    /// The next that is told of the operation, and its cursor; `None` at the end.
    async fn next(&mut self) -> Option<(Vec<u8>, Operation)> {
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

fn metadata(operation: &Operation) -> OperationMetadata {
    operation.metadata.as_ref().unwrap().to_msg().unwrap()
}

fn states(history: &[Operation]) -> Vec<State> {
    history.iter().map(|operation| metadata(operation).state()).collect()
}

fn failure(operation: Operation) -> (Code, String) {
    let Some(operation::Result::Error(error)) = operation.result else { panic!("{operation:?}") };
    let status = Status::with_details(error.code.into(), "", prost::Message::encode_to_vec(&error).into());
    (status.code(), status.get_error_details().error_info().unwrap().reason.clone())
}

/// Revisions without a hole, one end, and nothing behind it.
fn assert_whole(history: &[Operation]) {
    let revisions: Vec<_> = history.iter().map(|operation| metadata(operation).revision).collect();
    let dense: Vec<_> = (2..).take(history.len()).collect();
    assert_eq!(revisions, dense);
    let ends: Vec<_> = history.iter().map(|operation| operation.done).collect();
    assert_eq!(ends.iter().filter(|done| **done).count(), 1);
    assert!(ends.last().unwrap());
}

#[tokio::test]
async fn an_operation_is_told_from_its_begin_to_its_one_end() {
    let bench = Bench::start().await;
    let name = bench.begin(3, SUCCEED).await;
    let done = bench.wait(&name).await;
    let Some(operation::Result::Response(response)) = &done.result else { panic!("{done:?}") };
    assert_eq!(response.to_msg::<prost_types::Duration>().unwrap().seconds, 3);
    assert_eq!(response.type_url, "type.googleapis.com/google.protobuf.Duration");

    let history = bench.history(&name).await;
    assert_whole(&history);
    assert_eq!(states(&history), [State::Running, State::Running, State::Running, State::Running, State::Succeeded]);
}

#[tokio::test]
async fn the_same_request_starts_one_operation_and_another_under_its_id_none() {
    let bench = Bench::start().await;
    let (id, request) = (uuid::Uuid::new_v4().to_string(), prost_types::Duration { seconds: 1, nanos: 0 });
    let start = Start::<Steps>::new(&id, &request);
    assert!(bench.operations.started(&start).await.unwrap().is_none());
    let mut names = Vec::new();
    for _ in 0..3 {
        let mut tx = bench.store.begin().await.unwrap();
        names.push(bench.operations.start(&mut tx, &start).await.unwrap().name);
        tx.commit().await.unwrap();
    }
    assert!(names.iter().all(|name| name == &names[0]), "{names:?}");
    assert_eq!(bench.operations.started(&start).await.unwrap().unwrap().name, names[0]);

    let other = prost_types::Duration { seconds: 2, nanos: 0 };
    let mut tx = bench.store.begin().await.unwrap();
    let refused = bench.operations.start(&mut tx, &Start::<Steps>::new(&id, &other)).await.unwrap_err();
    assert!(matches!(refused, mesh::store::Error::RequestIdReused));
}

#[tokio::test]
async fn what_is_not_committed_has_not_started() {
    let bench = Bench::start().await;
    let (id, request) = (uuid::Uuid::new_v4().to_string(), prost_types::Duration::default());
    let mut tx = bench.store.begin().await.unwrap();
    bench.operations.start(&mut tx, &Start::<Steps>::new(&id, &request)).await.unwrap();
    drop(tx);
    let request = ListOperationsRequest { name: "services/work".to_owned(), ..Default::default() };
    let listed = OperationsClient::new(bench.channel.clone()).list_operations(request).await.unwrap().into_inner();
    assert!(listed.operations.is_empty());
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_finished_steps_are_not() {
    let bench = Bench::start().await;
    let name = bench.begin(2, FAIL_ONCE).await;
    let done = bench.wait(&name).await;
    assert_eq!((metadata(&done).state(), metadata(&done).attempt), (State::Succeeded, 2));
    let history = bench.history(&name).await;
    assert_whole(&history);
    let running = State::Running;
    assert_eq!(states(&history), [running, running, running, State::Pending, running, State::Succeeded]);
}

#[tokio::test]
async fn what_is_final_is_not_tried_again() {
    let bench = Bench::start().await;
    let done = bench.wait(&bench.begin(0, FAIL_FOR_GOOD).await).await;
    assert_eq!((metadata(&done).state(), metadata(&done).attempt), (State::Failed, 1));
    assert_eq!(failure(done), (Code::FailedPrecondition, "NEVER".to_owned()));
}

#[tokio::test]
async fn a_panic_fails_one_operation_after_its_attempts_and_no_other() {
    let bench = Bench::start().await;
    let name = bench.begin(0, PANIC).await;
    let next = bench.wait(&bench.begin(1, SUCCEED).await).await;
    assert_eq!(metadata(&next).state(), State::Succeeded);
    let done = bench.wait(&name).await;
    assert_eq!((metadata(&done).state(), metadata(&done).attempt), (State::Failed, 2));
    assert_eq!(failure(done), (Code::Internal, "OPERATION_PANICKED".to_owned()));
}

#[tokio::test]
async fn what_hangs_is_cancelled_and_what_is_done_is_not() {
    let bench = Bench::start().await;
    let name = bench.begin(1, HANG).await;
    bench.running(&name).await;
    bench.cancel(&name).await;
    let done = bench.wait(&name).await;
    assert_eq!(metadata(&done).state(), State::Cancelled);
    assert!(metadata(&done).cancel_requested);
    assert_eq!(failure(done), (Code::Cancelled, "OPERATION_CANCELLED".to_owned()));
    assert_whole(&bench.history(&name).await);

    let done = bench.wait(&bench.begin(0, SUCCEED).await).await;
    bench.cancel(&done.name).await;
    assert_eq!(bench.get(&done.name).await, done);
}

#[tokio::test]
async fn cancel_and_finish_race_to_one_end() {
    let bench = Bench::start().await;
    for _ in 0..100 {
        let name = bench.begin(0, SUCCEED).await;
        bench.cancel(&name).await;
        let done = bench.wait(&name).await;
        assert!(matches!(metadata(&done).state(), State::Succeeded | State::Cancelled));
        assert_whole(&bench.history(&name).await);
    }
}

#[tokio::test]
async fn nobody_who_waits_misses_the_end() {
    let bench = Bench::start().await;
    let all = (0..300).map(async |_| {
        let name = bench.begin(0, SUCCEED).await;
        tokio::join!(bench.wait(&name), async {
            let mut watch = bench.watch(&name, Vec::new()).await;
            let mut last = None;
            while let Some((_, operation)) = watch.next().await {
                last = Some(operation);
            }
            assert!(last.unwrap().done);
        });
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn a_watcher_that_is_cut_after_every_frame_misses_nothing_and_sees_nothing_twice() {
    let bench = Bench::start().await;
    let name = bench.begin(30, FAIL_ONCE).await;
    let (mut cursor, first) = bench.watch(&name, Vec::new()).await.next().await.unwrap();
    let mut seen = vec![first];
    while !seen.last().unwrap().done {
        // A new stream for every frame: what was read ahead of the cursor is lost with the old one.
        let (next, operation) = bench.watch(&name, cursor).await.next().await.unwrap();
        cursor = next;
        seen.push(operation);
    }
    let from = metadata(&seen[0]).revision;
    let revisions: Vec<_> = seen.iter().map(|operation| metadata(operation).revision).collect();
    assert_eq!(revisions, (from..from + i64::try_from(seen.len()).unwrap()).collect::<Vec<_>>());
    assert!(bench.history(&name).await.ends_with(&seen[1..]));
}

#[tokio::test]
async fn who_comes_back_after_the_end_is_told_the_end() {
    let bench = Bench::start().await;
    let name = bench.begin(1, SUCCEED).await;
    bench.wait(&name).await;
    let mut watch = bench.watch(&name, Vec::new()).await;
    let (cursor, end) = watch.next().await.unwrap();
    assert!(end.done && watch.next().await.is_none());
    let mut again = bench.watch(&name, cursor).await;
    assert_eq!(again.next().await.unwrap().1, end);
    assert!(again.next().await.is_none());
}

#[tokio::test]
async fn a_cursor_ahead_of_the_database_or_of_another_one_is_answered_with_a_gap() {
    let bench = Bench::start().await;
    let name = bench.begin(1, SUCCEED).await;
    bench.wait(&name).await;
    let cursor = bench.watch(&name, Vec::new()).await.next().await.unwrap().0;
    let ahead = [&cursor[..cursor.len() - 8], &99_i64.to_be_bytes()].concat();
    let elsewhere = [&[7; 16], &cursor[16..]].concat();
    for cursor in [ahead, elsewhere] {
        let mut watch = bench.watch(&name, cursor).await;
        let gap = watch.stream.message().await.unwrap().unwrap();
        assert!(matches!(gap.event, Some(watch_response::Event::Gap(_))), "{gap:?}");
        assert!(watch.next().await.unwrap().1.done);
        assert!(watch.next().await.is_none());
    }
}

#[tokio::test]
async fn a_drain_gives_work_back_and_the_next_process_goes_on_at_once() {
    let bench = Bench::start().await;
    let name = bench.begin(2, HANG).await;
    bench.running(&name).await;
    let bench = bench.restart().await;
    bench.running(&name).await;
    let again = metadata(&bench.get(&name).await);
    assert_eq!((again.state(), again.attempt), (State::Running, 1), "a drain is no attempt");
    assert_eq!(bench.attempts.load(Ordering::SeqCst), 2);
    bench.cancel(&name).await;
    bench.wait(&name).await;
    assert_whole(&bench.history(&name).await);
}

#[tokio::test]
async fn the_helper_shows_the_end_and_not_the_way_there() {
    let bench = Bench::start().await;
    let name = bench.begin(3, SUCCEED).await;
    let mut revisions = Vec::new();
    let done = mesh::client::watch_until_done(bench.channel.clone(), &name, |operation| {
        revisions.push(metadata(operation).revision);
    });
    assert!(done.await.unwrap().done);
    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
    let unknown = format!("services/work/operations/{}", uuid::Uuid::new_v4());
    let refused = mesh::client::watch_until_done(bench.channel.clone(), &unknown, |_| ()).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn of_progress_that_comes_too_fast_the_last_is_told() {
    let bench = Bench::start().await;
    let name = bench.begin(0, TELL).await;
    let told = metadata(&bench.wait(&name).await).progress.unwrap().to_msg::<prost_types::Duration>().unwrap();
    assert_eq!(told.seconds, 500);
    let history = bench.history(&name).await;
    assert_whole(&history);
    assert!(history.len() < 100, "{} changes for 500 calls", history.len());
}

#[tokio::test]
async fn a_quiet_operation_is_heard_of_by_its_heartbeat() {
    let bench = Bench::start().await;
    let name = bench.begin(0, HANG).await;
    bench.running(&name).await;
    // Other operations change meanwhile, and are nobody's concern here.
    let other = bench.begin(1, SUCCEED).await;
    let heartbeat = Some(prost_types::Duration { seconds: 5, nanos: 0 });
    let request = WatchRequest { name, heartbeat, ..WatchRequest::default() };
    let mut events = OperationEventsServiceClient::new(bench.channel.clone());
    let mut stream = events.watch(request).await.unwrap().into_inner();
    let snapshot = stream.message().await.unwrap().unwrap();
    let beat = tokio::time::timeout(std::time::Duration::from_secs(8), stream.message()).await.unwrap();
    let beat = beat.unwrap().unwrap();
    assert!(matches!(beat.event, Some(watch_response::Event::Heartbeat(_))), "{beat:?}");
    assert_eq!(beat.cursor, snapshot.cursor);
    bench.wait(&other).await;
}

#[tokio::test]
async fn a_wait_is_bounded_whatever_it_asks_for() {
    let bench = Bench::start().await;
    let name = bench.begin(0, HANG).await;
    let wait = async |seconds| {
        let timeout = Some(prost_types::Duration { seconds, nanos: 0 });
        let mut request = tonic::Request::new(WaitOperationRequest { name: name.clone(), timeout });
        request.set_timeout(std::time::Duration::from_millis(500));
        OperationsClient::new(bench.channel.clone()).wait_operation(request).await
    };
    assert!(!wait(i64::MAX).await.unwrap().into_inner().done);
    assert_eq!(wait(-1).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_drain_does_not_wait_for_who_waits() {
    let bench = Bench::start().await;
    let name = bench.begin(0, HANG).await;
    bench.running(&name).await;
    let waiting = tokio::spawn({
        let (channel, name) = (bench.channel.clone(), name.clone());
        async move {
            let request = WaitOperationRequest { name, timeout: None };
            OperationsClient::new(channel).wait_operation(request).await.unwrap().into_inner()
        }
    });
    // Sent before the drain: an answer to what came behind it on the same connection says so.
    bench.get(&name).await;
    let start = std::time::Instant::now();
    bench.mesh.drain().await;
    assert!(start.elapsed() < std::time::Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(!waiting.await.unwrap().done);
}

/// Changes the row of an operation behind the kit's back.
async fn tamper(bench: &Bench, set: &'static str) {
    let mut tx = bench.store.begin().await.unwrap();
    sqlx::query(set).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_writes_nothing() {
    let bench = Bench::start().await;
    let name = bench.begin(1, HANG).await;
    bench.running(&name).await;
    // Somebody else has claimed it, and works on it.
    tamper(&bench, "UPDATE operations SET fence = fence + 1").await;
    bench.cancel(&name).await;
    let revision = metadata(&bench.get(&name).await).revision;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let still = metadata(&bench.get(&name).await);
    assert_eq!((still.state(), still.revision), (State::Running, revision), "the end is not this worker's to write");

    // And that somebody dies.
    tamper(&bench, "UPDATE operations SET lease_until = 0").await;
    let done = bench.wait(&name).await;
    assert_eq!(metadata(&done).state(), State::Cancelled);
    assert_whole(&bench.history(&name).await);
}

#[tokio::test]
async fn what_kills_its_worker_every_time_is_given_up() {
    let bench = Bench::start().await;
    let name = bench.begin(0, HANG).await;
    bench.running(&name).await;
    tamper(&bench, "UPDATE operations SET fence = fence + 1, attempt = 2, lease_until = 0").await;
    let done = bench.wait(&name).await;
    assert_eq!(failure(done), (Code::Internal, "OPERATION_ABANDONED".to_owned()));
}

#[tokio::test]
async fn what_takes_too_long_fails() {
    let bench = Bench::start().await;
    let name = bench.begin(0, HANG).await;
    bench.running(&name).await;
    tamper(&bench, "UPDATE operations SET fence = fence + 1, deadline_at = 1, lease_until = 0").await;
    let done = bench.wait(&name).await;
    assert_eq!(failure(done), (Code::DeadlineExceeded, "OPERATION_DEADLINE_EXCEEDED".to_owned()));
}

/// A watcher that does not read is a page and a window, not a queue: what it has missed is in the database.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn watchers_that_never_read_do_not_grow_the_process() {
    // In a process of its own, where no other test grows meanwhile.
    const ALONE: &str = "OPERATIONS_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        alone.args(["--exact", "watchers_that_never_read_do_not_grow_the_process"]).env(ALONE, "");
        let told = tokio::task::spawn_blocking(move || alone.output()).await.unwrap().unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stdout));
        return;
    }
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let bench = Bench::start().await;
    let name = bench.begin(2000, SUCCEED).await;
    bench.running(&name).await;
    // On a connection of their own: who does not read fills the window that all streams of a connection share.
    let apart = Channel::from_shared(bench.mesh.url()).unwrap().connect().await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(watch(apart.clone(), &name, Vec::new()).await);
    }
    let before = resident();
    bench.wait(&name).await;
    let grown = resident().saturating_sub(before);
    // Every event for every watcher would be 100 times 2000 times 350 bytes: 70 MB.
    assert!(grown < 35 * 1024 * 1024, "grown by {} MB", grown / 1024 / 1024);

    // And nothing is lost for it.
    silent.truncate(1);
    let mut watch = silent.pop().unwrap();
    let mut last = None;
    while let Some((_, operation)) = watch.next().await {
        last = Some(operation);
    }
    assert!(last.unwrap().done);
}

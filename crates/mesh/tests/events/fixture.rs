//! The fixture of each test: a mesh with things, which publishes each change, and a reader with a copy of them.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use harness::Postgres;
use mesh::events::{Events as _, Publish as _};
use mesh::operations::{Attempt, Ended, Work};
use mesh::store::Error;
use mesh::testing::Mesh;
use mesh::{Operations, Service, Store};
use mesh_proto::mesh::events::v1::events_service_client::EventsServiceClient;
use mesh_proto::mesh::events::v1::subscribe_response::Frame;
use mesh_proto::mesh::events::v1::{SubscribeRequest, SubscribeResponse};
use sqlx::Row as _;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

pub(crate) use crate::things::{Made, make};
use crate::things::{Removed, THINGS, Thing, remove, snapshot};

fn service(opened: Arc<OnceLock<(Store, Operations)>>) -> Service {
    Service::new("things", &[]).owns(THINGS).publishes(snapshot).works(move |resources| {
        opened.get_or_init(|| (resources.store(), resources.operations()));
        Make(resources.store())
    })
}

/// Work that makes a thing in a step. It fails behind the step if the revision is negative; its clean-up then publishes
/// that the thing is removed.
pub(crate) struct Make(Store);

impl Work for Make {
    const KIND: &'static str = "Make";
    type Request = Made;
    type Response = Made;
    type Error = Error;

    async fn run(&self, attempt: &Attempt, request: Made) -> Result<Made, Error> {
        let mut step = attempt.step("make").await?;
        let make = sqlx::query("INSERT INTO things (name, revision) VALUES ($1, $2)").bind(&request.name);
        make.bind(request.revision).execute(&mut *step).await?;
        step.publish(&request)?;
        step.commit(&request, &request).await?;
        if request.revision < 0 { Err(Error::RequestIdReused) } else { Ok(request) }
    }

    async fn clean_up(&self, _: &Ended, request: Made) -> Result<(), Error> {
        let mut tx = self.0.begin().await?;
        tx.publish(&Removed { name: request.name })?;
        tx.commit().await
    }
}

pub(crate) struct Fixture {
    pub(crate) mesh: Mesh,
    pub(crate) store: Store,
    pub(crate) operations: Operations,
    pub(crate) client: EventsServiceClient<Channel>,
    settings: Vec<String>,
}

/// Fails a test that takes longer than 120 s, such as one that waits for an event that never comes.
pub(crate) async fn within_limit(test: impl Future<Output = ()>) {
    let passed = tokio::time::timeout(Duration::from_secs(120), test).await;
    assert!(passed.is_ok(), "the test did not end within 120 s");
}

impl Fixture {
    pub(crate) async fn sqlite() -> Self {
        Self::start(Vec::new()).await
    }

    /// Starts on a new Postgres database; `None`, with a note, if no Postgres is installed.
    pub(crate) async fn postgres() -> Option<Self> {
        // The start of a server blocks, so it runs outside of the runtime.
        let url = tokio::task::spawn_blocking(|| {
            let name = format!("events_{}", uuid::Uuid::new_v4().simple());
            Postgres::shared().map(|server| server.database(&name))
        });
        Some(Self::start(vec![format!("services.things.database_url={}", url.await.unwrap()?)]).await)
    }

    /// Starts a second mesh with the same Postgres database.
    pub(crate) async fn replica(&self) -> Self {
        Self::start(self.settings.clone()).await
    }

    async fn start(settings: Vec<String>) -> Self {
        let opened = Arc::new(OnceLock::new());
        let folder = tempfile::tempdir().unwrap();
        let mesh = Mesh::start_in(folder, &settings, service(Arc::clone(&opened))).await;
        let client = EventsServiceClient::connect(mesh.url()).await.unwrap();
        let (store, operations) = opened.get().unwrap().clone();
        Self { mesh, store, operations, client, settings }
    }

    /// Makes or changes a thing, and waits until the event has its position.
    pub(crate) async fn make(&self, name: &str) {
        make(&self.store, name).await.unwrap();
        self.numbered().await;
    }

    /// Waits until no event waits for its position, as each does on Postgres for some milliseconds.
    async fn numbered(&self) {
        let waiting = async || {
            let staged = sqlx::query("SELECT staged FROM events_staged LIMIT 1");
            staged.fetch_optional(self.store.reader()).await.unwrap().is_some()
        };
        while waiting().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) async fn remove(&self, name: &str) {
        remove(&self.store, name).await.unwrap();
        self.numbered().await;
    }

    /// Executes a statement in a transaction.
    pub(crate) async fn execute(&self, statement: &'static str) {
        let mut tx = self.store.begin().await.unwrap();
        sqlx::raw_sql(statement).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// The things and their revisions.
    pub(crate) async fn things(&self) -> BTreeMap<String, i64> {
        let things = sqlx::query("SELECT name, revision FROM things").fetch_all(self.store.reader()).await.unwrap();
        things.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Follows the things. Heartbeats are rare, since tests expect other frames.
    pub(crate) async fn follow(&self, cursor: &[u8], types: &[&str]) -> Result<Reader, Status> {
        self.follow_with(cursor, types, 30).await
    }

    /// As [`follow`](Self::follow), with a heartbeat after these seconds.
    pub(crate) async fn follow_with(&self, cursor: &[u8], types: &[&str], seconds: i64) -> Result<Reader, Status> {
        let types = types.iter().map(ToString::to_string).collect();
        let (source, cursor) = ("things".to_owned(), cursor.to_vec());
        let heartbeat = Some(prost_types::Duration { seconds, nanos: 0 });
        let request = SubscribeRequest { source, cursor, types, heartbeat };
        let frames = self.client.clone().subscribe(request).await?.into_inner();
        Ok(Reader { frames, copy: Copy::default() })
    }
}

/// A stream, and what its frames say.
pub(crate) struct Reader {
    frames: Streaming<SubscribeResponse>,
    pub(crate) copy: Copy,
}

/// A copy of the things, and the place of its reader.
#[derive(Clone, Debug, Default)]
pub(crate) struct Copy {
    pub(crate) things: BTreeMap<String, i64>,
    pub(crate) cursor: Vec<u8>,
    pub(crate) position: i64,
    pub(crate) resets: usize,
    pub(crate) caught_up: bool,
}

impl Reader {
    /// Applies the next frame, and returns it.
    pub(crate) async fn next(&mut self) -> Frame {
        let response = self.frames.message().await.unwrap().unwrap();
        let frame = response.frame.unwrap();
        self.copy.apply(&frame);
        self.copy.cursor = response.cursor;
        assert!(response.head >= self.copy.position);
        frame
    }

    /// Applies frames up to `caught_up`, the first one or another.
    pub(crate) async fn catch_up(&mut self) {
        while !matches!(self.next().await, Frame::CaughtUp(_)) {}
    }
}

impl Copy {
    fn apply(&mut self, frame: &Frame) {
        let event = match frame {
            Frame::Event(event) => {
                if self.position > 0 {
                    assert_eq!(event.position, self.position + 1, "a position is missing or comes twice");
                }
                self.position = event.position;
                event
            }
            Frame::Snapshot(event) => event,
            Frame::Reset(_) => {
                *self = Self { resets: self.resets + 1, ..Self::default() };
                return;
            }
            Frame::CaughtUp(_) => {
                assert!(!std::mem::replace(&mut self.caught_up, true), "caught up twice");
                return;
            }
            Frame::Heartbeat(_) => return,
        };
        match Thing::decode(event.data.clone().unwrap()).unwrap() {
            Thing::Made(made) => {
                assert_eq!(event.key, made.name);
                let revision = self.things.entry(made.name).or_default();
                *revision = made.revision.max(*revision);
            }
            Thing::Removed(removed) => drop(self.things.remove(&removed.name)),
            Thing::Unknown(_) => {}
        }
    }
}

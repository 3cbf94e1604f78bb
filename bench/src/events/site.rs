//! The service under test: it owns things, and publishes each change of one.

use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use mesh::events::{Event, Events, Publish as _};
use mesh::store::Error;
use mesh::testing::Mesh;
use mesh::{Migration, Service, Store};
use mesh_proto::mesh::events::v1::events_service_client::EventsServiceClient;
use mesh_proto::mesh::events::v1::{SubscribeRequest, SubscribeResponse};
use prost::{DecodeError, Message as _};
use prost_types::Any;
use sqlx::Row as _;
use sqlx::any::AnyRow;
use tonic::Streaming;
use uuid::Uuid;

use crate::machine::Place;
use crate::service::Undone;

pub(super) const SERVICE: &str = "things";
/// A row of the service's own.
pub(super) const THING: &str = "INSERT INTO things (name, text) VALUES ($1, $2)";
const MIGRATIONS: &[Migration] = &[Migration::new(
    1,
    "things",
    "CREATE TABLE things (name TEXT NOT NULL PRIMARY KEY, text TEXT NOT NULL);
     CREATE TABLE counter (id BIGINT NOT NULL PRIMARY KEY, next BIGINT NOT NULL);
     INSERT INTO counter (id, next) VALUES (1, 0);
     CREATE TABLE counted (position BIGINT NOT NULL PRIMARY KEY, key TEXT NOT NULL, payload BYTEA NOT NULL);",
)];
/// The rows of a transaction that fills tables.
const FILL: usize = 500;

/// The event of a thing that was made; about 150 bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Made {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) text: String,
}

impl Made {
    pub(super) fn new() -> Self {
        Self { name: Uuid::now_v7().to_string(), text: "a thing ".repeat(14) }
    }
}

impl prost::Name for Made {
    const NAME: &'static str = "Made";
    const PACKAGE: &'static str = "things.v1";

    fn type_url() -> String {
        format!("type.googleapis.com/{}", Self::full_name())
    }
}

impl Event for Made {
    fn key(&self) -> &str {
        &self.name
    }
}

impl Events for Made {
    const TYPES: &'static [&'static str] = &["things.v1.Made"];

    fn decode(event: Any) -> Result<Self, DecodeError> {
        <Self as prost::Message>::decode(event.value.as_slice())
    }

    fn key(&self) -> &str {
        &self.name
    }

    fn pack(self) -> Any {
        Any { type_url: <Self as prost::Name>::type_url(), value: self.encode_to_vec() }
    }
}

async fn snapshot(store: Store, after: String, limit: i64) -> Result<Vec<Made>, Error> {
    let page = sqlx::query("SELECT name, text FROM things WHERE name > $1 ORDER BY name LIMIT $2");
    let made = |row: AnyRow| Ok(Made { name: row.try_get(0)?, text: row.try_get(1)? });
    Ok(page.bind(after).bind(limit).try_map(made).fetch_all(store.reader()).await?)
}

/// A mesh with that service, and its store.
pub(super) struct Site {
    pub(super) mesh: Mesh,
    pub(super) store: Store,
}

impl Site {
    pub(super) async fn start(place: &Place) -> anyhow::Result<Self> {
        Self::start_with(place, None).await
    }

    /// Starts the service, perhaps in one process with a follower, each with its database.
    pub(super) async fn start_with(place: &Place, follower: Option<(Service, &Place)>) -> anyhow::Result<Self> {
        Self::start_as(place, follower, None).await
    }

    async fn start_as(
        place: &Place,
        follower: Option<(Service, &Place)>,
        setting: Option<String>,
    ) -> anyhow::Result<Self> {
        let (sender, store) = mpsc::channel();
        let things = Service::new(SERVICE, &[]).owns(MIGRATIONS).publishes(snapshot).works(move |resources| {
            // If the receiver is gone, the start has already failed.
            let _ = sender.send(resources.store());
            Undone
        });
        let database =
            |service: &Service, place: &Place| format!("services.{}.database_url={}", service.name(), place.url);
        let (folder, own) = (tempfile::tempdir_in(&place.folder)?, database(&things, place));
        let mut settings: Vec<_> = setting.into_iter().chain([own]).collect();
        let mesh = match follower {
            None => Mesh::start_in(folder, &settings, things).await,
            Some((follower, place)) => {
                settings.push(database(&follower, place));
                Mesh::start_in(folder, &settings, [things, follower]).await
            }
        };
        Ok(Self { mesh, store: store.recv().context("the service was not built")? })
    }

    /// Starts the service with a relay to a NATS server.
    #[cfg(feature = "nats")]
    pub(super) async fn start_relaying(place: &Place, url: &str) -> anyhow::Result<Self> {
        Self::start_as(place, None, Some(format!("nats.url={url}"))).await
    }

    /// Ends it, and closes its database.
    pub(super) async fn stop(self) {
        self.mesh.drain().await;
    }

    /// Makes things, `FILL` a transaction, with their events.
    pub(super) async fn fill(&self, count: usize) -> anyhow::Result<()> {
        for _ in 0..count.div_ceil(FILL) {
            let mut tx = self.store.begin().await?;
            for _ in 0..FILL {
                let made = Made::new();
                sqlx::query(THING).bind(&made.name).bind(&made.text).execute(&mut *tx).await?;
                tx.publish(&made)?;
            }
            tx.commit().await?;
        }
        self.numbered().await
    }

    /// Waits until no event waits for its position, as each does on Postgres.
    pub(super) async fn numbered(&self) -> anyhow::Result<()> {
        let staged = "SELECT staged FROM events_staged LIMIT 1";
        while sqlx::query(staged).fetch_optional(self.store.reader()).await?.is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    pub(super) async fn subscribe(&self, cursor: Vec<u8>) -> anyhow::Result<Streaming<SubscribeResponse>> {
        let request = SubscribeRequest { source: SERVICE.to_owned(), cursor, ..SubscribeRequest::default() };
        Ok(EventsServiceClient::connect(self.mesh.url()).await?.subscribe(request).await?.into_inner())
    }
}

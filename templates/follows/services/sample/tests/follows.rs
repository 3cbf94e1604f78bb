//! Follows a service in the place of `origin` that only publishes.

use std::time::{Duration, Instant};

use contracts::mesh::events::v1::ListFollowersRequest;
use contracts::mesh::events::v1::follower::State;
use contracts::mesh::events::v1::followers_service_client::FollowersServiceClient;
use contracts::origin::v1::{self as source, Event};

use contracts::sample::v1::GetCopyRequest;
use contracts::sample::v1::sample_service_client::SampleServiceClient;
use mesh::events::{Events as _, Publish as _};
use mesh::testing::{Mesh, bounds};
use mesh::{Service, Store};
use tokio::sync::mpsc;
use tonic_types::StatusExt as _;

/// A mesh with `sample`, and the database of its source.
struct Follower {
    mesh: Mesh,
    source: Store,
}

impl Follower {
    /// Starts a source whose snapshot is one event, with the key `old`, and waits until the copy has it.
    async fn start() -> Self {
        let (sender, mut opened) = mpsc::unbounded_channel();
        let source = Service::new("origin", contracts::FILE_DESCRIPTOR_SET).publishes(move |store: Store, _, _| {
            let _ = sender.send(store);
            async { Ok(states("old").into_iter().take(1).collect()) }
        });
        let mesh = Mesh::start([sample::service(), source]).await;
        let follower = Self { mesh, source: opened.recv().await.expect("a stream") };
        follower.applied().await;
        follower
    }

    /// Waits until the copy has every event of the source.
    async fn applied(&self) {
        let last = sqlx::query_scalar("SELECT COALESCE(MAX(position), 0) FROM events");
        let last: i64 = last.fetch_one(self.source.reader()).await.expect("a row");
        let start = Instant::now();
        loop {
            let mut client = FollowersServiceClient::new(self.mesh.channel("sample"));
            let followers = client.list_followers(ListFollowersRequest {}).await.expect("an answer").into_inner().followers;
            if followers[0].state() == State::Following && followers[0].position == last {
                assert_eq!(followers[0].parked_keys, 0, "an event could not be applied");
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{followers:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Publishes an event twice. Returns whether the copy then has it, or the reason of the failure.
    async fn publish<E: mesh::events::Event + Clone + Into<Event>>(&self, event: E) -> Result<bool, String> {
        let mut tx = self.source.begin().await.expect("a database");
        tx.publish(&event).expect("an event");
        tx.publish(&event).expect("an event");
        tx.commit().await.expect("a database");
        self.applied().await;
        let event = event.into();
        Ok(get(&self.mesh, event.key()).await? == event)
    }
}

/// The copy of a key, or the reason of the failure.
async fn get(mesh: &Mesh, key: &str) -> Result<Event, String> {
    let mut client = SampleServiceClient::new(mesh.channel("sample"));
    let found = client.get_copy(GetCopyRequest { key: key.to_owned() }).await;
    let found = found.map_err(|status| status.get_error_details().error_info().expect("a reason").reason.clone())?;
    Ok(Event::decode(found.into_inner().event.expect("an event")).expect("an event"))
}

/// An event that has nothing but its key.
trait Keyed: Default {
    fn set(&mut self, key: &str);

    fn with(key: &str) -> Self {
        let mut event = Self::default();
        event.set(key);
        event
    }
}

impl Keyed for source::SomethingChanged { fn set(&mut self, key: &str) { self.something_id.push_str(key); } }

impl Keyed for source::SomethingRemoved { fn set(&mut self, key: &str) { self.something_id.push_str(key); } }

/// The events that the copy stores, each with this key.
fn states(key: &str) -> Vec<Event> {
    vec![
        source::SomethingChanged::with(key).into(),
    ]
}

#[tokio::test]
async fn new_copy_has_the_snapshot() {
    let follower = Follower::start().await;
    assert_eq!(get(&follower.mesh, "old").await.unwrap(), states("old")[0]);
    assert_eq!(get(&follower.mesh, "new").await.unwrap_err(), "COPY_NOT_FOUND");
}

#[tokio::test]
async fn events_are_applied_and_a_repeat_changes_nothing() {
    let follower = Follower::start().await;
    assert_eq!(follower.publish(source::SomethingChanged::with("new")).await, Ok(true));
    assert_eq!(follower.publish(source::SomethingRemoved::with("new")).await, Err("COPY_NOT_FOUND".to_owned()));
    assert_eq!(get(&follower.mesh, "old").await.unwrap(), states("old")[0]);
}

#[tokio::test]
async fn copy_is_unavailable_until_it_is_complete() {
    let mesh = Mesh::start(sample::service()).await;
    assert_eq!(get(&mesh, "old").await.unwrap_err(), "COPY_INCOMPLETE");
}

#[tokio::test]
async fn bounds_of_the_copy_are_those_of_the_service() {
    let follower = Follower::start().await;
    let client = SampleServiceClient::new(follower.mesh.channel("sample"));
    let get = GetCopyRequest { key: "old".to_owned() };
    bounds(contracts::FILE_DESCRIPTOR_SET, &get, &[], async |request| client.clone().get_copy(request).await).await;
}

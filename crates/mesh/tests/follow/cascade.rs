//! Two services that answer each other's events, in one process.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mesh::events::{Applying, Copied, Event, Events, Follow, Publish as _};
use mesh::testing::Mesh;
use mesh::{Error, Migration, Service, Store};
use prost::DecodeError;
use prost_types::Any;
use sqlx::Row as _;

/// One of the two, with its name, its event and the event that it answers.
macro_rules! player {
    ($event:ident, $package:literal, $name:literal, $follower:ident, $source:literal, $followed:ident) => {
        #[derive(Clone, PartialEq, prost::Message)]
        struct $event {
            #[prost(string, tag = "1")]
            ball: String,
        }

        impl prost::Name for $event {
            const NAME: &'static str = stringify!($event);
            const PACKAGE: &'static str = $package;

            fn type_url() -> String {
                format!("type.googleapis.com/{}", Self::full_name())
            }
        }

        impl Event for $event {
            fn key(&self) -> &str {
                &self.ball
            }
        }

        impl Events for $event {
            const TYPES: &'static [&'static str] = &[$name];

            fn decode(event: Any) -> Result<Self, DecodeError> {
                <Self as prost::Message>::decode(event.value.as_slice())
            }

            fn key(&self) -> &str {
                &self.ball
            }

            fn pack(self) -> Any {
                Any::from_msg(&self).unwrap()
            }
        }

        struct $follower;

        impl Follow for $follower {
            const SOURCE: &'static str = $source;
            type Event = $followed;

            async fn apply(&self, tx: &mut Applying<'_>, event: $followed) -> Result<(), Error> {
                tx.publish(&$event { ball: event.ball })
            }

            async fn sweep(&self, _: &mut Applying<'_>, _: i64) -> Result<(), Error> {
                Ok(())
            }
        }
    };
}

player!(Ping, "ping.v1", "ping.v1.Ping", AnswersPong, "pong", Pong);
player!(Pong, "pong.v1", "pong.v1.Pong", AnswersPing, "ping", Ping);

const NOTHING: &[Migration] = &[Migration::new(1, "balls", "CREATE TABLE balls (id BIGINT NOT NULL PRIMARY KEY);")];

/// Both keep no data of their own.
async fn nothing<E>(_: Store, _: String, _: i64) -> Result<Vec<E>, Error> {
    Ok(Vec::new())
}

/// The stores of both services by name, with their copies.
type Opened = Arc<Mutex<Vec<(&'static str, Store, Copied)>>>;

fn ping(opened: &Opened) -> Service {
    let opened = Arc::clone(opened);
    let service = Service::new("ping", &[]).owns(NOTHING).publishes(nothing::<Ping>);
    service.follows(move |resources| {
        opened.lock().unwrap().push(("ping", resources.store(), resources.copy("pong")));
        AnswersPong
    })
}

fn pong(opened: &Opened) -> Service {
    let opened = Arc::clone(opened);
    let service = Service::new("pong", &[]).owns(NOTHING).publishes(nothing::<Pong>);
    service.follows(move |resources| {
        opened.lock().unwrap().push(("pong", resources.store(), resources.copy("ping")));
        AnswersPing
    })
}

/// An event in a log: hops, id, causation, correlation.
async fn events(store: &Store) -> Vec<(i64, String, String, String)> {
    let events = "SELECT hops, id, causation, correlation FROM events ORDER BY position";
    let events = sqlx::query(events).fetch_all(store.reader()).await.unwrap();
    events.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
}

/// Waits until an event is parked, and returns its error.
async fn parked(stores: [&Store; 2]) -> String {
    let start = Instant::now();
    loop {
        for store in stores {
            let parked = sqlx::query("SELECT error FROM mesh_parked_events").fetch_optional(store.reader()).await;
            if let Some(row) = parked.unwrap() {
                return row.get(0);
            }
        }
        assert!(start.elapsed() < Duration::from_secs(60), "nothing is parked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn cascade_ends_at_ten_hops() {
    let opened = Opened::default();
    let _mesh = Mesh::start([ping(&opened), pong(&opened)]).await;
    let store = |name| opened.lock().unwrap().iter().find(|(of, ..)| *of == name).unwrap().1.clone();
    let (ping, pong) = (store("ping"), store("pong"));
    let copies: Vec<_> = opened.lock().unwrap().iter().map(|(.., copied)| copied.clone()).collect();
    // From here on they get each event.
    while copies.iter().any(|copied| copied.complete().is_err()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut tx = ping.begin().await.unwrap();
    tx.publish(&Ping { ball: "ball".to_owned() }).unwrap();
    tx.commit().await.unwrap();

    let error = parked([&ping, &pong]).await;
    assert!(error.contains("events cause each other without an end"), "{error}");
    let mut chain = [events(&ping).await, events(&pong).await].concat();
    chain.sort();
    assert_eq!(chain.iter().map(|(hops, ..)| *hops).collect::<Vec<_>>(), Vec::from_iter(0..=10));
    assert!(chain.windows(2).all(|pair| pair[1].2 == pair[0].1 && pair[1].3 == pair[0].3), "{chain:?}");
}

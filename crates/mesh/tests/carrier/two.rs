//! Two relays of one log.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::Postgres;
use mesh_carrier::{Carrier as _, Last, Message, Nats, Servers};
use mesh_proto::mesh::events::v1::Event;
use prost_types::Any;
use sqlx::Row as _;
use uuid::Uuid;

use crate::fixture::{Broker, Things, eventually, server, within_limit};

fn event(position: i64) -> Message {
    let data = Some(Any { type_url: "type.googleapis.com/things.v1.Made".to_owned(), value: Vec::new() });
    Message::event("things", Uuid::nil(), Event { id: position.to_string(), position, data, ..Event::default() })
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs NATS: .ci/foreign"]
async fn relay_behind_another_one_is_refused_until_it_has_asked_again() {
    let Some(server) = server().await else { return };
    within_limit(async {
        let relay = || Nats::new(Servers::parse(&server.url()).unwrap(), "things", Duration::from_secs(3600));
        let (mut first, mut second) = (relay(), relay());
        assert_eq!((first.last().await.unwrap(), second.last().await.unwrap()), (None::<Last>, None));
        first.publish((1..=100).map(event).collect()).await.unwrap();
        second.publish((1..=100).map(event).collect()).await.unwrap_err();
        second.publish(vec![event(101)]).await.unwrap_err();
        assert!(second.last().await.unwrap().is_some());
        second.publish(vec![event(101)]).await.unwrap();
        first.publish(vec![event(101)]).await.unwrap_err();
        Broker::of(&server).await.has_all(101).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs NATS: .ci/foreign"]
async fn relays_that_publish_at_once_leave_no_position_out() {
    const HEAD: i64 = 2000;
    let Some(server) = server().await else { return };
    within_limit(async {
        let relay = async |mut carrier: Nats| {
            loop {
                // Either may be refused at any time, as behind the other one.
                let Ok(last) = carrier.last().await else { continue };
                let position = last.map_or(0, |last| last.position());
                if position >= HEAD {
                    return;
                }
                let _ = carrier.publish((position + 1..=HEAD.min(position + 20)).map(event).collect()).await;
            }
        };
        let carrier = || Nats::new(Servers::parse(&server.url()).unwrap(), "things", Duration::from_secs(3600));
        tokio::join!(relay(carrier()), relay(carrier()), relay(carrier()));
        Broker::of(&server).await.has_all(HEAD).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs NATS: .ci/foreign"]
async fn replicas_publish_each_event_once_however_often_the_lease_changes_hands() {
    let Some(server) = server().await else { return };
    let name = format!("carrier_{}", Uuid::new_v4().simple());
    let create = move || Postgres::shared().map(|server| server.database(&name));
    let Some(url) = tokio::task::spawn_blocking(create).await.unwrap() else { return };
    within_limit(async {
        let settings = [format!("services.things.database_url={url}")];
        let start = async || Things::start_in(tempfile::tempdir().unwrap(), &server.url(), &settings).await;
        let (one, two) = (start().await, start().await);
        let mut holders = BTreeSet::new();
        let change_hands = async {
            // The holder of before does not know yet, and publishes on.
            while holders.len() < 2 {
                let mut tx = one.store.begin().await.unwrap();
                let end = sqlx::query("UPDATE mesh_relay SET lease_until = 0 RETURNING holder");
                let row = end.fetch_optional(&mut *tx).await.unwrap();
                tx.commit().await.unwrap();
                holders.extend(row.map(|row| row.get::<String, _>(0)));
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        tokio::join!(change_hands, one.make(1000), two.make(1000));
        assert_eq!(holders.len(), 2, "one of the two had the lease at all times");
        let broker = Broker::of(&server).await;
        broker.has_all(2000).await;

        // A process that drains hands over at once.
        let held = eventually("a holder", async || {
            let held = [&one, &two].map(|things| things.metric("mesh_carrier_lag_events").is_some());
            (held[0] != held[1]).then_some(held[0])
        })
        .await;
        let (holder, other) = if held { (one, two) } else { (two, one) };
        drop(holder.drain().await);
        other.make(10).await;
        broker.has_all(2010).await;
    })
    .await;
}

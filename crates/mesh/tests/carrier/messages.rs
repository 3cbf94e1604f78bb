//! An event as a CloudEvent.

use prost::Message as _;
use sqlx::Row as _;

use crate::fixture::{Broker, Things, attribute, server, within_limit};
use crate::things::{Made, make, remove};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs NATS: .ci/foreign"]
async fn carrier_publishes_each_event_once_in_order_as_a_cloud_event() {
    let Some(server) = server().await else { return };
    within_limit(async {
        let things = Things::start(&server.url()).await;
        make(&things.store, "Straße 1").await.unwrap();
        remove(&things.store, "Straße 1").await.unwrap();
        things.make(600).await;
        let broker = Broker::of(&server).await;
        broker.has_all(602).await;

        let messages = broker.messages().await;
        let (made, removed) = (&messages[0], &messages[1]);
        assert_eq!((&*made.subject, &*removed.subject), ("events.things.v1.Made", "events.things.v1.Removed"));
        let rows = sqlx::query("SELECT id, trace, correlation FROM events WHERE position = 1");
        let row = rows.fetch_one(things.store.reader()).await.unwrap();
        let epoch = sqlx::query("SELECT epoch FROM store_meta").fetch_one(things.store.reader()).await.unwrap();
        for (name, value) in [
            ("specversion", "1.0"),
            ("id", row.get("id")),
            ("source", "things"),
            ("type", "things.v1.Made"),
            ("subject", "Stra%C3%9Fe%201"),
            ("partitionkey", "Stra%C3%9Fe%201"),
            ("sequence", "1"),
            ("epoch", epoch.get("epoch")),
            ("traceparent", row.get("trace")),
            ("correlationid", row.get("correlation")),
            // It has no cause, and no attribute is empty.
            ("causationid", ""),
        ] {
            assert_eq!(attribute(made, name), value, "{name}");
        }
        assert!(attribute(made, "time").ends_with('Z'), "{}", attribute(made, "time"));
        assert_eq!(made.headers.get("content-type").unwrap().as_str(), "application/protobuf");
        let expected = Made { name: "Straße 1".to_owned(), revision: 1 };
        assert_eq!(Made::decode(made.payload.clone()).unwrap(), expected);
        assert_eq!(things.metric("mesh_carrier_published_total"), Some(602.0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs NATS: .ci/foreign"]
async fn carrier_waits_while_a_message_of_another_program_is_the_last_one() {
    let Some(server) = server().await else { return };
    within_limit(async {
        let things = Things::start(&server.url()).await;
        things.make(3).await;
        let broker = Broker::of(&server).await;
        broker.has_all(3).await;
        let ack = broker.0.publish("events.things.other", "".into()).await.unwrap().await.unwrap();
        things.make(3).await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(broker.stream().await.unwrap().cached_info().state.messages, 4, "nothing is added behind it");
        broker.stream().await.unwrap().delete_message(ack.sequence).await.unwrap();
        broker.has_all(6).await;
    })
    .await;
}

//! Logs that do not continue what the broker has.

use crate::fixture::{Broker, Things, attribute, positions, server, within_limit};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs NATS: .ci/foreign"]
async fn log_of_another_history_follows_a_reset() {
    let Some(server) = server().await else { return };
    within_limit(async {
        let things = Things::start(&server.url()).await;
        things.make(5).await;
        let broker = Broker::of(&server).await;
        broker.has_all(5).await;
        drop(things.drain().await);

        // A database without its data, as after a lost disk.
        let things = Things::start(&server.url()).await;
        things.make(3).await;
        broker.reaches(3).await;
        let messages = broker.messages().await;
        assert_eq!(positions(&messages), [1, 2, 3, 4, 5, 0, 1, 2, 3]);
        assert_eq!(
            (&*messages[5].subject, &*attribute(&messages[5], "type")),
            ("events.things.reset", "mesh.events.v1.Reset")
        );
        assert_eq!(things.metric("mesh_carrier_resets_total"), Some(1.0));

        // A restart goes on.
        let folder = things.drain().await;
        let things = Things::start_in(folder, &server.url(), &[]).await;
        things.make(1).await;
        broker.reaches(4).await;
        assert_eq!(positions(&broker.messages().await), [1, 2, 3, 4, 5, 0, 1, 2, 3, 4]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs NATS: .ci/foreign"]
async fn events_that_were_deleted_before_the_broker_had_them_follow_a_reset() {
    let Some(server) = server().await else { return };
    within_limit(async {
        let things = Things::start(&server.url()).await;
        things.make(5).await;
        let broker = Broker::of(&server).await;
        broker.has_all(5).await;
        let folder = things.drain().await;
        // The same service without a broker.
        let things = Things::start_in(folder, "", &[]).await;
        things.make(5).await;
        let mut tx = things.store.begin().await.unwrap();
        let delete = "DELETE FROM events WHERE position < 8; UPDATE events_head SET floor = 8";
        sqlx::raw_sql(delete).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        let folder = things.drain().await;
        let _things = Things::start_in(folder, &server.url(), &[]).await;
        broker.reaches(10).await;
        assert_eq!(positions(&broker.messages().await), [1, 2, 3, 4, 5, 7, 8, 9, 10]);
    })
    .await;
}

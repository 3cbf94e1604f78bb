//! A broker that has lost what it acknowledged.

use harness::Nats;

use crate::fixture::{Broker, STREAM, Things, server, within_limit};

/// Does something to a server that is killed, and starts it again.
async fn meanwhile(mut server: Nats, change: impl FnOnce(&Nats) + Send + 'static) -> Nats {
    let restart = move || {
        server.kill();
        change(&server);
        server.restart();
        server
    };
    tokio::task::spawn_blocking(restart).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs NATS: .ci/foreign"]
async fn broker_that_lost_its_last_messages_gets_them_again() {
    let Some(server) = server().await else { return };
    within_limit(async {
        let things = Things::start(&server.url()).await;
        things.make(500).await;
        Broker::of(&server).await.has_all(500).await;
        let server = meanwhile(server, Nats::save).await;
        things.make(1000).await;
        Broker::of(&server).await.has_all(1500).await;
        // Nothing is published meanwhile: the relay finds out by itself.
        let server = meanwhile(server, Nats::restore).await;
        Broker::of(&server).await.has_all(1500).await;
        things.make(1).await;
        Broker::of(&server).await.has_all(1501).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs NATS: .ci/foreign"]
async fn broker_whose_store_was_emptied_gets_all_events_again() {
    let Some(server) = server().await else { return };
    within_limit(async {
        let things = Things::start(&server.url()).await;
        things.make(1000).await;
        let broker = Broker::of(&server).await;
        broker.has_all(1000).await;
        let server = meanwhile(server, Nats::empty).await;
        let broker = Broker::of(&server).await;
        broker.has_all(1000).await;

        // An operator purges or deletes the stream while it runs.
        broker.stream().await.unwrap().purge().await.unwrap();
        broker.has_all(1000).await;
        broker.0.delete_stream(STREAM).await.unwrap();
        things.make(1).await;
        broker.has_all(1001).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs NATS: .ci/foreign"]
async fn broker_whose_last_messages_were_deleted_gets_them_again() {
    let Some(server) = server().await else { return };
    within_limit(async {
        let things = Things::start(&server.url()).await;
        things.make(1200).await;
        let broker = Broker::of(&server).await;
        broker.has_all(1200).await;
        // Without a relay that would go on in their midst. The sequence of the stream does not go back with them.
        let folder = things.drain().await;
        let stream = broker.stream().await.unwrap();
        for sequence in (201..=1200).rev() {
            stream.delete_message(sequence).await.unwrap();
        }
        let _things = Things::start_in(folder, &server.url(), &[]).await;
        broker.has_all(1200).await;
    })
    .await;
}

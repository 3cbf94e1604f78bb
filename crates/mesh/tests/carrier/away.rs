//! A broker that is away, killed, or stands still.

use std::time::{Duration, Instant};

use harness::{Nats, find_program, free_address};
use mesh_carrier::{Carrier as _, Nats as Carrier, Servers};

use crate::fixture::{Broker, Things, eventually, server, within_limit};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs NATS: .ci/foreign"]
async fn broker_that_is_away_fails_no_call_and_leaves_the_service_ready() {
    if find_program("nats-server", &[]).is_none() {
        // Prints the note.
        assert!(server().await.is_none());
        return;
    }
    within_limit(async {
        let address = free_address();
        let things = Things::start(&format!("nats://{address}")).await;
        things.make(300).await;
        eventually("the metric", async || things.metric("mesh_carrier_last_answer_seconds")).await;
        assert!(things.get("/readyz").starts_with("HTTP/1.1 200"), "{}", things.get("/readyz"));
        assert_eq!(things.metric("mesh_carrier_published_total"), Some(0.0));

        let server = tokio::task::spawn_blocking(move || Nats::start_at(address)).await.unwrap().unwrap();
        Broker::of(&server).await.has_all(300).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs NATS: .ci/foreign"]
async fn broker_that_is_killed_gets_each_event_once() {
    let Some(mut server) = server().await else { return };
    within_limit(async {
        let things = Things::start(&server.url()).await;
        let mut made = 0;
        for _ in 0..5 {
            // A kill lands while events are on their way.
            let (kill, make) = tokio::join!(
                tokio::task::spawn_blocking(move || {
                    server.kill();
                    server.restart();
                    server
                }),
                things.make(300)
            );
            ((), server) = (make, kill.unwrap());
            made += 300;
        }
        Broker::of(&server).await.has_all(made).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs NATS: .ci/foreign"]
async fn broker_that_stands_still_delays_no_call_and_the_lag_shows_it() {
    let Some(server) = server().await else { return };
    within_limit(async {
        let things = Things::start(&server.url()).await;
        things.make(10).await;
        let broker = Broker::of(&server).await;
        broker.has_all(10).await;
        server.signal("STOP");
        let begun = Instant::now();
        things.make(100).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "calls took {:?}", begun.elapsed());
        let lags = async || things.metric("mesh_carrier_lag_events").filter(|lag| *lag >= 100.0);
        eventually("the lag", lags).await;
        assert!(things.metric("mesh_carrier_lag_seconds").unwrap() > 0.0);
        assert!(things.get("/readyz").starts_with("HTTP/1.1 200"));
        server.signal("CONT");
        broker.has_all(110).await;
        eventually("no lag", async || things.metric("mesh_carrier_lag_events").filter(|lag| *lag == 0.0)).await;
    })
    .await;
}

#[tokio::test]
async fn broker_that_refuses_is_named_at_once() {
    let address = free_address();
    let mut carrier = carrier(&format!("nats://user:hush@{address}"));
    let begun = Instant::now();
    let error = carrier.last().await.unwrap_err().to_string();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(error.contains(&format!("NATS at {address}: ")) && error.contains("`nats.url`"), "{error}");
    assert!(!error.contains("hush"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs NATS: .ci/foreign"]
async fn broker_that_is_killed_is_named_at_once() {
    let Some(mut server) = server().await else { return };
    within_limit(async {
        let mut carrier = carrier(&server.url());
        carrier.last().await.unwrap();
        server.kill();
        let begun = Instant::now();
        let error = carrier.last().await.unwrap_err().to_string();
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let name = server.url().replace("nats://", "NATS at ");
        assert!(error.contains(&name) && error.contains("start the server"), "{error}");

        let server = tokio::task::spawn_blocking(move || {
            server.restart();
            server
        });
        let _server = server.await.unwrap();
        eventually("the connection is back", async || carrier.last().await.ok()).await;
    })
    .await;
}

fn carrier(url: &str) -> Carrier {
    Carrier::new(Servers::parse(url).unwrap(), "things", Duration::from_secs(60))
}

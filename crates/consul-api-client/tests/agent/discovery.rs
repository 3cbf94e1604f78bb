//! Finds instances and waits for changes.

use std::time::{Duration, Instant};

use consul_api_client::health::Query;
use consul_api_client::{Blocking, Registration, Weights};

use crate::harness::{Agent, eventually, settled};

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn instances_are_listed_until_they_deregister() {
    let Some(agent) = Agent::start().await else { return };
    let client = agent.client();
    let weights = Weights { passing: 10, warning: 2 };
    let one = Registration::new("a").id("a-1").port(5001).tag("v1").tag("blue").meta("version", "1.0.0");
    client.agent().register(&one.address("127.0.0.9").weights(weights)).await.unwrap();
    client.agent().register(&Registration::new("a").id("a-2").port(5002).tag("v1")).await.unwrap();

    let all = eventually("both instances are listed", async || {
        let found = client.health().instances(&Query::service("a"), None).await.unwrap().value;
        (found.len() == 2).then_some(found)
    });
    let mut all = all.await;
    all.sort_by_key(|instance| instance.service.port);
    assert_eq!((all[0].address(), all[0].weight()), ("127.0.0.9", 10));
    assert_eq!(all[0].service.meta["version"], "1.0.0");
    // The address of the node.
    assert_eq!((all[1].address(), all[1].weight()), ("127.0.0.1", 1));

    let blue = client.health().instances(&Query::service("a").tag("v1").tag("blue"), None).await.unwrap().value;
    assert_eq!(blue.iter().map(|instance| instance.service.id.as_str()).collect::<Vec<_>>(), ["a-1"]);

    let names = client.catalog().services(None).await.unwrap().value;
    assert_eq!(names["a"].iter().filter(|tag| *tag == "v1").count(), 1);
    let entries = client.catalog().service("a", None).await.unwrap().value;
    assert_eq!(entries.len(), 2);
    assert!(entries.iter().any(|entry| entry.id == "a-1" && entry.service_weights == weights));

    for id in ["a-1", "a-2"] {
        client.agent().deregister(id).await.unwrap();
    }
    eventually("no instance is listed", async || {
        let found = client.health().instances(&Query::service("a"), None).await.unwrap().value;
        found.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn blocking_query_returns_on_a_change() {
    let Some(agent) = Agent::start().await else { return };
    let client = agent.client();
    client.agent().register(&Registration::new("a").id("a-1")).await.unwrap();
    let query = Query::service("a").passing();
    let index = settled(&client, &query, 1).await;

    let watch = {
        let (client, blocking) = (client.clone(), Blocking { index, wait: Duration::from_secs(20) });
        tokio::spawn(async move { (client.health().instances(&query, blocking).await.unwrap(), Instant::now()) })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!watch.is_finished());
    let start = Instant::now();
    client.agent().register(&Registration::new("a").id("a-2")).await.unwrap();
    let (changed, at) = watch.await.unwrap();
    assert!(at - start < Duration::from_secs(1), "{:?}", at - start);
    assert_eq!(changed.value.len(), 2);
    assert!(changed.next(index) > index);
}

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn blocking_query_returns_the_same_state_after_its_wait() {
    let Some(agent) = Agent::start().await else { return };
    // The timeout is shorter than the wait, so the limit must add the two.
    let client = consul_api_client::Client::builder(&agent.url).timeout(Duration::from_millis(800)).build().unwrap();
    let query = Query::service("consul");
    let index = settled(&client, &query, 1).await;
    let wait = Duration::from_secs(2);
    let start = Instant::now();
    let after = client.health().instances(&query, Blocking { index, wait }).await.unwrap();
    let waited = start.elapsed();
    assert!(waited >= wait && waited < wait * 17 / 16 + Duration::from_millis(800), "{waited:?}");
    assert_eq!((after.index, after.value.len()), (index, 1));
}

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn dropped_blocking_query_leaves_the_client_usable() {
    let Some(agent) = Agent::start().await else { return };
    let client = agent.client();
    let index = settled(&client, &Query::service("consul"), 1).await;
    let blocking = Blocking { index, wait: Duration::from_secs(3) };
    for _ in 0..20 {
        let query = Query::service("consul");
        let watch = client.health().instances(&query, blocking);
        assert!(tokio::time::timeout(Duration::from_millis(5), watch).await.is_err());
        assert_eq!(client.health().instances(&query, None).await.unwrap().value.len(), 1);
    }
}

//! Reads, writes and locks keys; manages sessions.

use std::time::{Duration, Instant};

use consul_api_client::session::{Behavior, Session};
use consul_api_client::{Blocking, Error};

use crate::harness::Agent;

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn kv_returns_written_values_unchanged() {
    let Some(agent) = Agent::start().await else { return };
    let client = agent.client();
    let kv = client.kv();
    let none = kv.get("jobs/a b", None).await.unwrap();
    assert_eq!(none.value, None);
    assert!(none.index > 0);

    kv.put("jobs/a b", vec![0, 255]).await.unwrap();
    kv.put("jobs/old/ä?&", "").await.unwrap();
    assert_eq!(kv.get("jobs/a b", None).await.unwrap().value.unwrap().value, [0, 255]);
    assert_eq!(kv.keys("jobs/", None).await.unwrap(), ["jobs/a b", "jobs/old/ä?&"]);
    assert_eq!(kv.keys("jobs/", Some("/")).await.unwrap(), ["jobs/a b", "jobs/old/"]);
    assert_eq!(kv.list("jobs/", None).await.unwrap().value[1].value, b"");

    kv.delete("jobs/a b").await.unwrap();
    kv.delete("jobs/a b").await.unwrap();
    kv.delete_all("jobs/").await.unwrap();
    assert!(kv.list("jobs/", None).await.unwrap().value.is_empty());
    assert!(kv.keys("jobs/", None).await.unwrap().is_empty());
}

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn blocking_query_waits_for_a_missing_key() {
    let Some(agent) = Agent::start().await else { return };
    let client = agent.client();
    let index = client.kv().get("a", None).await.unwrap().index;
    let watch = {
        let (client, blocking) = (client.clone(), Blocking { index, wait: Duration::from_secs(20) });
        tokio::spawn(async move { client.kv().get("a", blocking).await.unwrap().value })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    let start = Instant::now();
    client.kv().put("a", "b").await.unwrap();
    assert_eq!(watch.await.unwrap().unwrap().value, b"b");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn compare_and_set_rejects_an_outdated_index() {
    let Some(agent) = Agent::start().await else { return };
    let client = agent.client();
    let kv = client.kv();
    assert!(kv.compare_and_set("a", "1", 0).await.unwrap());
    assert!(!kv.compare_and_set("a", "2", 0).await.unwrap());
    let first = kv.get("a", None).await.unwrap().value.unwrap();
    assert!(kv.compare_and_set("a", "2", first.modify_index).await.unwrap());
    assert!(!kv.compare_and_delete("a", first.modify_index).await.unwrap());
    let second = kv.get("a", None).await.unwrap().value.unwrap();
    assert!(kv.compare_and_delete("a", second.modify_index).await.unwrap());
}

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn lock_has_one_holder_and_an_increasing_index() {
    let Some(agent) = Agent::start().await else { return };
    let client = agent.client();
    let (kv, sessions) = (client.kv(), client.sessions());
    let session = Session::new().name("one").ttl(Duration::from_secs(10)).lock_delay(Duration::ZERO);
    let one = sessions.create(&session).await.unwrap();
    let two = sessions.create(&session.clone().behavior(Behavior::Delete)).await.unwrap();
    let info = sessions.info(&one).await.unwrap().unwrap();
    assert_eq!((info.name.as_str(), info.behavior), ("one", Behavior::Release));

    assert!(kv.acquire("lock", "one", &one).await.unwrap());
    assert!(kv.acquire("lock", "one, again", &one).await.unwrap());
    assert!(!kv.acquire("lock", "two", &two).await.unwrap());
    assert!(!kv.release("lock", "two", &two).await.unwrap());
    let held = kv.get("lock", None).await.unwrap().value.unwrap();
    assert_eq!((held.session.as_deref(), held.value), (Some(one.as_str()), b"one, again".to_vec()));

    // A session releases its locks when it ends; without a lock delay, the next session acquires at once.
    sessions.renew(&one).await.unwrap();
    sessions.destroy(&one).await.unwrap();
    assert_eq!(sessions.info(&one).await.unwrap(), None);
    assert!(kv.acquire("lock", "two", &two).await.unwrap());
    let next = kv.get("lock", None).await.unwrap().value.unwrap();
    assert!(next.lock_index > held.lock_index);

    let error = sessions.renew(&one).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    let error = kv.acquire("lock", "one", &one).await.unwrap_err();
    assert!(matches!(&error, Error::Status { message, .. } if message.contains("invalid session")), "{error:?}");
    sessions.destroy(&two).await.unwrap();
    assert_eq!(kv.get("lock", None).await.unwrap().value, None);
}

//! Registers services with the agent and reports on checks.

use std::time::{Duration, Instant};

use consul_api_client::health::{CheckStatus, Query};
use consul_api_client::{Check, Error, Registration};

use crate::harness::{Agent, eventually};

const WAIT: Duration = Duration::from_secs(10);

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn info_describes_the_agent() {
    let Some(agent) = Agent::start().await else { return };
    let client = agent.client();
    let info = client.agent().info().await.unwrap();
    assert!(info.version.split('.').count() == 3 && info.server, "{info:?}");
    assert_eq!(info.datacenter, "dc1");
    assert_eq!(client.catalog().datacenters().await.unwrap(), ["dc1"]);
    assert_eq!(client.status().peers().await.unwrap().len(), 1);
}

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn register_accepts_every_kind_of_check() {
    let Some(agent) = Agent::start().await else { return };
    let (client, second) = (agent.client(), Duration::from_secs(1));
    let all = Registration::new("a")
        .check(Check::grpc("127.0.0.1:1/a.v1.A", second).id("grpc").timeout(second).deregister_after(WAIT * 6))
        .check(Check::grpc_tls("127.0.0.1:1", second).id("grpcs").tls_skip_verify())
        .check(Check::http("http://127.0.0.1:1/", second).id("http").name("a page"))
        .check(Check::tcp("127.0.0.1:1", second).id("tcp").initial(CheckStatus::Warning))
        .check(Check::ttl(second).id("ttl"));
    client.agent().register(&all).await.unwrap();
    let checks = client.agent().checks().await.unwrap();
    assert_eq!(checks.keys().collect::<Vec<_>>(), ["grpc", "grpcs", "http", "tcp", "ttl"]);
    assert_eq!((checks["http"].name.as_str(), checks["http"].service_id.as_str()), ("a page", "a"));
}

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn register_removes_checks_of_the_previous_registration() {
    let Some(agent) = Agent::start().await else { return };
    let client = agent.client();
    for id in ["old", "new"] {
        let registration = Registration::new("a").id("a-1").check(Check::ttl(WAIT).id(id));
        client.agent().register(&registration).await.unwrap();
    }
    assert_eq!(client.agent().checks().await.unwrap().keys().collect::<Vec<_>>(), ["new"]);
}

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn ttl_check_follows_reports_and_turns_critical_without_them() {
    let Some(agent) = Agent::start().await else { return };
    let client = agent.client();
    let registration = Registration::new("a").check(Check::ttl(Duration::from_secs(1)).id("alive"));
    client.agent().register(&registration).await.unwrap();

    let agent = client.agent();
    let alive = async || agent.checks().await.unwrap()["alive"].clone();
    assert_eq!(alive().await.status, CheckStatus::Critical);
    agent.warn("alive", "slow").await.unwrap();
    assert_eq!(alive().await.status, CheckStatus::Warning);
    agent.fail("alive", "no disk").await.unwrap();
    assert_eq!(alive().await.status, CheckStatus::Critical);
    agent.pass("alive", "all is well").await.unwrap();
    let passing = alive().await;
    assert_eq!((passing.status, passing.output.as_str()), (CheckStatus::Passing, "all is well"));

    let critical = eventually("the check turns critical", async || {
        let found = client.health().checks("a", None).await.unwrap().value;
        found.into_iter().find(|check| check.status == CheckStatus::Critical)
    });
    assert_eq!(critical.await.id, "alive");
    let passing = client.health().instances(&Query::service("a").passing(), None).await.unwrap();
    assert!(passing.value.is_empty());

    let error = agent.pass("unknown", "").await.unwrap_err();
    assert!(matches!(&error, Error::NotFound { message, .. } if message.contains("unknown")), "{error:?}");
}

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn maintenance_hides_instances_until_it_ends() {
    let Some(agent) = Agent::start().await else { return };
    let client = agent.client();
    client.agent().register(&Registration::new("a").id("a-1")).await.unwrap();
    let visible = async |expected: usize| {
        eventually("the expected number of instances is passing", async || {
            let found = client.health().instances(&Query::service("a").passing(), None).await.unwrap();
            (found.value.len() == expected).then_some(())
        })
        .await;
    };
    visible(1).await;
    client.agent().begin_service_maintenance("a-1", "a new disk & more").await.unwrap();
    visible(0).await;
    let checks = client.agent().checks().await.unwrap();
    assert!(checks.values().any(|check| check.service_id == "a-1" && check.status == CheckStatus::Critical));
    client.agent().end_service_maintenance("a-1").await.unwrap();
    visible(1).await;
    client.agent().begin_maintenance("the whole rack").await.unwrap();
    visible(0).await;
    client.agent().end_maintenance().await.unwrap();
    visible(1).await;

    let error = client.agent().begin_service_maintenance("a-2", "").await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
}

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn service_changed_returns_on_deregistration() {
    let Some(agent) = Agent::start().await else { return };
    let client = agent.client();
    client.agent().register(&Registration::new("a").id("a-1").port(1)).await.unwrap();
    let before = client.agent().service("a-1").await.unwrap().unwrap();
    assert_eq!((before.name.as_str(), before.port), ("a", 1));
    assert_eq!(client.agent().services().await.unwrap()["a-1"].id, "a-1");

    // Without a change, the wait ends with the same service.
    let short = Duration::from_millis(300);
    let same = client.agent().service_changed("a-1", &before.content_hash, short).await.unwrap();
    assert_eq!(same.as_ref(), Some(&before));

    let watch = {
        let client = client.clone();
        tokio::spawn(async move { client.agent().service_changed("a-1", &before.content_hash, WAIT).await })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!watch.is_finished());
    let start = Instant::now();
    client.agent().deregister("a-1").await.unwrap();
    assert_eq!(watch.await.unwrap().unwrap(), None);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());

    client.agent().deregister("a-1").await.unwrap();
}

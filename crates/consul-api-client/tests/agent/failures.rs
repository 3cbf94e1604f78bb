//! Reports failures by kind.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use consul_api_client::health::Query;
use consul_api_client::{Blocking, Client, Error, Registration};

use crate::harness::{Agent, eventually, free_ports, settled};

#[tokio::test]
async fn unreachable_reports_the_url_and_the_cause() {
    let url = format!("http://127.0.0.1:{}", free_ports()[0]);
    let error = Client::new(&url).unwrap().status().leader().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }) && error.is_transient(), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&url) && text.contains("refused"), "{text}");
}

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn timeout_limits_requests_to_a_suspended_agent() {
    let Some(agent) = Agent::start().await else { return };
    let limit = Duration::from_millis(300);
    let client = Client::builder(&agent.url).timeout(limit).build().unwrap();
    let index = settled(&client, &Query::service("consul"), 1).await;
    agent.signal("STOP");
    // The signal takes effect later than `kill` returns.
    eventually("the agent stops answering", async || client.status().leader().await.err()).await;
    let start = Instant::now();
    let error = client.agent().register(&Registration::new("late")).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }) && error.is_transient(), "{error:?}");
    let blocking = Blocking { index, wait: Duration::from_millis(320) };
    let error = client.health().instances(&Query::service("consul"), blocking).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { limit: all, .. } if all == limit + blocking.wait * 17 / 16), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());

    agent.signal("CONT");
    // The same client still works, and the registration that timed out takes effect.
    eventually("the late registration takes effect", async || client.agent().service("late").await.ok().flatten())
        .await;
}

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn client_reconnects_after_an_agents_restart() {
    let Some(mut agent) = Agent::start().await else { return };
    let (client, query) = (agent.client(), Query::service("consul"));
    client.agent().register(&Registration::new("a")).await.unwrap();
    let blocking = Blocking { index: settled(&client, &query, 1).await, wait: Duration::from_secs(20) };
    let watch = {
        let (client, query) = (client.clone(), query.clone());
        tokio::spawn(async move { client.health().instances(&query, blocking).await })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    agent.kill();
    let error = watch.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    let error = client.status().leader().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");

    agent.restart();
    let info = eventually("the agent answers again", async || client.agent().info().await.ok()).await;
    assert!(info.server);
    assert_eq!(client.agent().service("a").await.unwrap(), None, "a development agent keeps no state");
}

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn status_errors_carry_consuls_message() {
    let Some(agent) = Agent::start().await else { return };
    let client = agent.client();
    let error = client.agent().register(&Registration::new("")).await.unwrap_err();
    let Error::Status { status: 400, message, .. } = &error else { panic!("{error:?}") };
    assert!(message.contains("Missing service name"), "{message}");
    assert!(!error.is_transient());

    // This 500 carries an index, which the client must not return.
    let elsewhere = Client::builder(&agent.url).datacenter("nowhere").build().unwrap();
    let error = elsewhere.health().instances(&Query::service("a"), None).await.unwrap_err();
    let Error::Status { status: 500, message, .. } = &error else { panic!("{error:?}") };
    assert!(message.contains("datacenter"), "{message}");
    assert!(error.is_transient());

    assert_eq!(client.agent().service("unknown").await.unwrap(), None);
    assert!(client.health().instances(&Query::service("unknown"), None).await.unwrap().value.is_empty());
}

/// A client of a program that is no agent, and answers one request.
fn of_another_program(answer: impl FnOnce(&mut TcpStream) + Send + 'static) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::new(format!("http://{}", listener.local_addr().unwrap())).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        answer(&mut stream);
    });
    client
}

#[tokio::test]
async fn undecodable_reports_a_response_of_another_program() {
    let client = of_another_program(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>").unwrap();
    });
    let error = client.status().leader().await.unwrap_err();
    assert!(matches!(error, Error::Undecodable { .. }) && !error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn endless_response_is_refused() {
    let client = of_another_program(|stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        while stream.write_all(&[b' '; 1 << 20]).is_ok() {}
    });
    let error = client.status().leader().await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }) && !error.is_transient(), "{error:?}");
}

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn permission_errors_name_the_missing_rule() {
    let root = "11111111-1111-1111-1111-111111111111";
    // All versions accept `master`; newer ones prefer another name.
    let settings = format!(r#","acl":{{"enabled":true,"default_policy":"deny","tokens":{{"master":"{root}"}}}}"#);
    let Some(agent) = Agent::start_with(&settings, Some(root)).await else { return };

    let error = agent.client().agent().register(&Registration::new("artwork")).await.unwrap_err();
    assert!(matches!(error, Error::Permission { .. }) && !error.is_transient(), "{error:?}");
    assert_eq!(error.missing_rule().as_deref(), Some("service:write on artwork"), "{error}");

    let error = agent.client().kv().get("a", None).await.unwrap_err();
    assert!(matches!(&error, Error::Permission { message, .. } if message.contains("Permission denied")), "{error:?}");

    let unknown = Client::builder(&agent.url).token("22222222-2222-2222-2222-222222222222").build().unwrap();
    let error = unknown.kv().get("a", None).await.unwrap_err();
    assert!(matches!(&error, Error::Permission { message, .. } if message.contains("ACL not found")), "{error:?}");

    // Discovery without read permission returns an empty list.
    let blind = agent.client().health().instances(&Query::service("consul"), None).await.unwrap();
    assert!(blind.value.is_empty());

    let allowed = Client::builder(&agent.url).token(root).build().unwrap();
    allowed.agent().register(&Registration::new("artwork")).await.unwrap();
}

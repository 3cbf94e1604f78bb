//! Reads intentions.

use std::time::Duration;

use consul_api_client::intentions::Action;
use consul_api_client::{Blocking, Client, Error};

use crate::harness::Agent;

#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn intentions_of_a_destination_come_by_precedence() {
    let Some(agent) = Agent::start().await else { return };
    let intentions = agent.client();
    let intentions = intentions.intentions();
    let index = intentions.list(None).await.unwrap().index;
    for arguments in [["-allow", "*", "*"], ["-deny", "b", "*"], ["-allow", "b", "a"], ["-deny", "b", "other"]] {
        agent.consul(&[&["intention", "create"], &arguments[..]].concat());
    }
    let all = intentions.list(Blocking { index, wait: Duration::from_secs(10) }).await.unwrap();
    assert!(all.index > index && all.value.len() == 4, "{all:?}");
    let found = intentions.of_destinations(&["a", "c"]).await.unwrap();
    let shown = |name: &str| {
        let found = found[name].iter();
        found.map(|it| (&*it.source_name, &*it.destination_name, it.action)).collect::<Vec<_>>()
    };
    assert_eq!(shown("a"), [("b", "a", Action::Allow), ("b", "*", Action::Deny), ("*", "*", Action::Allow)]);
    assert_eq!(shown("c"), [("b", "*", Action::Deny), ("*", "*", Action::Allow)]);
    agent.consul(&["intention", "delete", "*", "*"]);
    agent.consul(&["intention", "delete", "b", "*"]);
    assert_eq!(intentions.of_destinations(&["c"]).await.unwrap()["c"], []);
}

/// The list says nothing of a missing permission.
#[tokio::test]
#[ignore = "needs Consul: .ci/full"]
async fn intentions_of_a_destination_are_refused_without_the_permission() {
    let secret = "11111111-1111-1111-1111-111111111111";
    let acl = format!(r#","acl":{{"enabled":true,"default_policy":"deny","tokens":{{"master":"{secret}"}}}}"#);
    let Some(agent) = Agent::start_with(&acl, Some(secret)).await else { return };
    agent.consul(&["intention", "create", "-token", secret, "-allow", "b", "a"]);
    let allowed = Client::builder(&agent.url).token(secret).build().unwrap();
    assert_eq!(allowed.intentions().of_destinations(&["a"]).await.unwrap()["a"].len(), 1);
    let refused = agent.client();
    assert_eq!(refused.intentions().list(None).await.unwrap().value, []);
    let error = refused.intentions().of_destinations(&["a"]).await.unwrap_err();
    assert!(matches!(error, Error::Permission { .. }), "{error}");
}

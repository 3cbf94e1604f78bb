//! The helpers for callers: `watch_until_done` and `Subscription`.

use std::time::Duration;

use mesh::client::Subscription;
use mesh_proto::google::longrunning::Operation;
use mesh_proto::mesh::operations::v1::subscribe_response::Frame;
use tonic::Code;
use tonic::transport::Channel;

use crate::fixture::{Echo, FAIL_ONCE, Fixture, SUCCEED, metadata};
use harness::Proxy;

on_both!(watch_until_done_returns_the_end_and_hides_reconnects);
async fn watch_until_done_returns_the_end_and_hides_reconnects(fixture: Fixture) {
    let name = fixture.start(3, SUCCEED).await;
    let mut revisions = Vec::new();
    let done = mesh::client::watch_until_done(fixture.channel.clone(), &name, |operation| {
        revisions.push(metadata(operation).revision);
    });
    assert!(done.await.unwrap().done);
    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
    let unknown = format!("services/work/operations/{}", uuid::Uuid::new_v4());
    let refused = mesh::client::watch_until_done(fixture.channel.clone(), &unknown, |_| ()).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

/// The events until `ends` operations have ended.
async fn events(subscription: &mut Subscription<Channel>, ends: usize) -> Vec<Operation> {
    let (mut events, mut ended): (Vec<Operation>, _) = (Vec::new(), 0);
    while ended < ends {
        match subscription.next().await.unwrap().frame.unwrap() {
            Frame::Event(event) => {
                events.extend(event.operation);
                ended += usize::from(events.last().unwrap().done);
            }
            Frame::CaughtUp(_) | Frame::Heartbeat(_) => {}
            frame => panic!("{frame:?}"),
        }
    }
    events
}

on_both!(subscription_hides_cuts_and_drains);
async fn subscription_hides_cuts_and_drains(fixture: Fixture) {
    let network = Proxy::to(fixture.mesh.url().trim_start_matches("http://").parse().unwrap());
    let channel = Channel::from_shared(format!("http://{}", network.address)).unwrap().connect_lazy();
    let mut subscription = Subscription::new(channel, "services/work", Vec::new());
    assert!(matches!(subscription.next().await.unwrap().frame, Some(Frame::CaughtUp(_))));

    let cut = async {
        let work = async {
            for _ in 0..20 {
                fixture.wait(&fixture.start(20, SUCCEED).await).await;
            }
        };
        tokio::pin!(work);
        while tokio::time::timeout(Duration::from_millis(50), &mut work).await.is_err() {
            network.cut();
        }
    };
    let (mut received, ()) = tokio::join!(events(&mut subscription, 20), cut);
    let fixture = fixture.restart_at_same_address().await;
    fixture.start(3, FAIL_ONCE).await;
    received.extend(events(&mut subscription, 1).await);

    let mut revision = 0;
    for operation in &received {
        assert_eq!(metadata(operation).revision, revision + 1, "in order, so none is missing or repeated");
        revision = if operation.done { 0 } else { revision + 1 };
    }
}

on_both!(subscription_resumes_in_another_process_from_a_stored_cursor);
async fn subscription_resumes_in_another_process_from_a_stored_cursor(fixture: Fixture) {
    let subscribe = |cursor| {
        let subscription = Subscription::new(fixture.channel.clone(), "services/work", cursor);
        subscription.kinds(["Echo"]).terminal_only()
    };
    let mut first = subscribe(Vec::new());
    first.next().await.unwrap();
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(fixture.start_kind::<Echo>(prost_types::Duration::default()).await);
        fixture.wait(&fixture.start(1, SUCCEED).await).await;
        fixture.wait(names.last().unwrap()).await;
    }
    let stored = first.next().await.unwrap();
    let Some(Frame::Event(event)) = stored.frame else { panic!("{stored:?}") };
    assert_eq!(event.operation.unwrap().name, names[0]);

    let rest = events(&mut subscribe(stored.cursor), 2).await;
    assert_eq!(rest.iter().map(|operation| &operation.name).collect::<Vec<_>>(), [&names[1], &names[2]]);
    let refused = Subscription::new(fixture.channel.clone(), "services/unknown", Vec::new()).next().await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
}

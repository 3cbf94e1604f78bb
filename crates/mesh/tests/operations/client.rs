//! What the helpers for callers hide, and what they do not.

use std::time::Duration;

use mesh::client::Subscription;
use mesh_proto::google::longrunning::Operation;
use mesh_proto::mesh::operations::v1::subscribe_response::Frame;
use tonic::Code;
use tonic::transport::Channel;

use crate::bench::{Bench, Echo, FAIL_ONCE, SUCCEED, metadata};
use crate::proxy::Proxy;

on_both!(a_watch_shows_the_end_and_not_the_way_there);
async fn a_watch_shows_the_end_and_not_the_way_there(bench: Bench) {
    let name = bench.begin(3, SUCCEED).await;
    let mut revisions = Vec::new();
    let done = mesh::client::watch_until_done(bench.channel.clone(), &name, |operation| {
        revisions.push(metadata(operation).revision);
    });
    assert!(done.await.unwrap().done);
    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
    let unknown = format!("services/work/operations/{}", uuid::Uuid::new_v4());
    let refused = mesh::client::watch_until_done(bench.channel.clone(), &unknown, |_| ()).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

/// Events until so many operations have ended.
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

on_both!(a_subscription_shows_neither_a_cut_nor_a_drain);
async fn a_subscription_shows_neither_a_cut_nor_a_drain(bench: Bench) {
    let network = Proxy::to(bench.mesh.url().trim_start_matches("http://").parse().unwrap());
    let channel = Channel::from_shared(format!("http://{}", network.address)).unwrap().connect_lazy();
    let mut subscription = Subscription::new(channel, "services/work", Vec::new());
    assert!(matches!(subscription.next().await.unwrap().frame, Some(Frame::CaughtUp(_))));

    let cut = async {
        let work = async {
            for _ in 0..20 {
                bench.wait(&bench.begin(20, SUCCEED).await).await;
            }
        };
        tokio::pin!(work);
        while tokio::time::timeout(Duration::from_millis(50), &mut work).await.is_err() {
            network.cut();
        }
    };
    let (mut told, ()) = tokio::join!(events(&mut subscription, 20), cut);
    let bench = bench.restart_there().await;
    bench.begin(3, FAIL_ONCE).await;
    told.extend(events(&mut subscription, 1).await);

    let mut revision = 0;
    for operation in &told {
        assert_eq!(metadata(operation).revision, revision + 1, "one after another, so none is left out or told twice");
        revision = if operation.done { 0 } else { revision + 1 };
    }
}

on_both!(a_subscription_goes_on_in_another_process_from_what_was_stored);
async fn a_subscription_goes_on_in_another_process_from_what_was_stored(bench: Bench) {
    let subscribe = |cursor| {
        let subscription = Subscription::new(bench.channel.clone(), "services/work", cursor);
        subscription.kinds(["Echo"]).terminal_only()
    };
    let mut first = subscribe(Vec::new());
    first.next().await.unwrap();
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(bench.begin_a::<Echo>(prost_types::Duration::default()).await);
        bench.wait(&bench.begin(1, SUCCEED).await).await;
        bench.wait(names.last().unwrap()).await;
    }
    let stored = first.next().await.unwrap();
    let Some(Frame::Event(event)) = stored.frame else { panic!("{stored:?}") };
    assert_eq!(event.operation.unwrap().name, names[0]);

    let rest = events(&mut subscribe(stored.cursor), 2).await;
    assert_eq!(rest.iter().map(|operation| &operation.name).collect::<Vec<_>>(), [&names[1], &names[2]]);
    let refused = Subscription::new(bench.channel.clone(), "services/nobody", Vec::new()).next().await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
}

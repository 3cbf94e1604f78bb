//! Processes with one database: one of them applies.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh_proto::mesh::events::v1::follower::State;

use crate::api::{rebuild, until};
use crate::fixture::{Databases, Follower, Source, within_limit};

#[tokio::test]
#[ignore = "needs Postgres: .ci/full"]
async fn replica_takes_over_from_a_holder_that_stands_still_whose_batch_changes_nothing() {
    let Some(databases) = Databases::postgres().await else { return };
    within_limit(async move {
        let source = Source::start(&databases).await;
        source.make("one").await;
        let first = Follower::start(&databases, source.address()).await;
        first.equals(&source).await;
        let fence = first.count("SELECT fence FROM mesh_followers").await;
        let second = first.replica().await;
        second.copied.complete().unwrap();
        assert_eq!(second.count("SELECT fence FROM mesh_followers").await, fence, "the lease is held");
        let shown = until(&second, |shown| shown.heard_time.is_some()).await;
        assert_eq!((shown.state(), shown.head), (State::Following, 1), "the holder writes what it knows");

        first.control.stops.store(true, Ordering::SeqCst);
        source.make("two").await;
        while !first.control.stopped.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // As when the holder stands still as a whole, and its lease ends.
        second.execute("UPDATE mesh_followers SET fence = fence + 1, lease_until = 0").await;
        second.equals(&source).await;
        assert_eq!(second.count("SELECT fence FROM mesh_followers").await, fence + 2);
        first.control.stops.store(false, Ordering::SeqCst);
        source.make("three").await;
        second.equals(&source).await;
        let mut events = source.events().await.split_off(1);
        events.sort();
        assert_eq!(second.effects().await, events);

        // A holder that ends in order hands over at once.
        let begun = std::time::Instant::now();
        second.stop().await;
        source.make("four").await;
        first.equals(&source).await;
        assert!(begun.elapsed() < Duration::from_secs(8));
    })
    .await;
}

#[tokio::test]
#[ignore = "needs Postgres: .ci/full"]
async fn sweep_that_takes_longer_than_a_lease_keeps_it() {
    let Some(databases) = Databases::postgres().await else { return };
    within_limit(async move {
        let source = Source::start(&databases).await;
        source.make("one").await;
        let first = Follower::start(&databases, source.address()).await;
        first.equals(&source).await;
        let second = first.replica().await;
        let replicas = [&first, &second];
        for replica in replicas {
            replica.control.sweeps.store(13, Ordering::SeqCst);
        }
        let swept = || replicas.iter().map(|replica| replica.control.swept.load(Ordering::SeqCst)).sum::<usize>();
        let before = swept();
        assert_eq!(rebuild(&second).await, 2);
        let fence = first.count("SELECT fence FROM mesh_followers").await;
        first.until("SELECT whole FROM mesh_followers", 2).await;
        assert_eq!(first.count("SELECT fence FROM mesh_followers").await, fence, "the lease is held");
        assert_eq!(swept(), before + 1);
    })
    .await;
}

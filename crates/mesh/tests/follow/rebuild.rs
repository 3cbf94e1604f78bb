//! A source that does not continue at the place of its follower.

use std::sync::atomic::Ordering;

use crate::fixture::{Control, Databases, Follower, Source};

on_both!(copy_is_rebuilt_and_swept_when_the_source_is_another_history);
async fn copy_is_rebuilt_and_swept_when_the_source_is_another_history(databases: Databases) {
    let source = Source::start(&databases).await;
    for name in ["one", "two", "three", "four"] {
        source.make(name).await;
    }
    let follower = Follower::start(&databases, source.address()).await;
    follower.equals(&source).await;
    source.make("five").await;
    follower.equals(&source).await;

    // A backup without the last events, and with another one at a position that the follower has read.
    let stopped = follower.stop().await;
    source.execute("DELETE FROM things WHERE name IN ('four', 'five')").await;
    source.execute("DELETE FROM events WHERE position > 3; UPDATE events_head SET head = 3").await;
    source.make("sixth").await;
    source.make("seventh").await;
    let held = Control { stops: true.into(), ..Control::default() };
    let follower = stopped.start(held.into()).await;
    while !follower.control.stopped.load(Ordering::SeqCst) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    follower.copied.complete().unwrap();
    assert_eq!(follower.copy().await.len(), 5, "the old copy serves during the rebuild");
    follower.control.stops.store(false, Ordering::SeqCst);
    follower.equals(&source).await;
    assert_eq!(follower.count("SELECT generation FROM mesh_followers").await, 2);
    source.make("eighth").await;
    follower.equals(&source).await;
}

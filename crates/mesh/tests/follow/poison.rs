//! Events that cannot be applied.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use harness::Proxy;

use crate::fixture::{Control, Databases, Follower, Source, within_limit};

const PARKED: &str = "SELECT count(*) FROM mesh_parked_events";

/// A source, and a follower of it that fails for the names that begin so.
pub(crate) async fn failing(databases: &Databases) -> (Source, Follower) {
    let source = Source::start(databases).await;
    let follower = Follower::start(databases, source.address()).await;
    follower.equals(&source).await;
    follower.control.fails.store(true, Ordering::SeqCst);
    (source, follower)
}

on_both!(poison_is_parked_with_the_later_events_of_its_key_and_the_rest_goes_on);
async fn poison_is_parked_with_the_later_events_of_its_key_and_the_rest_goes_on(databases: Databases) {
    let (source, follower) = failing(&databases).await;
    for number in 0..50 {
        source.make(&format!("thing {number}")).await;
        if number % 20 == 7 {
            source.make("poison").await;
            source.make("panic").await;
        }
    }
    follower.until("SELECT count(*) FROM shelved", 50).await;
    follower.until(PARKED, 6).await;
    assert_eq!(follower.count("SELECT count(*) FROM mesh_parked_events WHERE error <> ''").await, 2);
    // A batch or two, and three attempts alone, for each of two keys.
    let failed = follower.control.failed.load(Ordering::SeqCst);
    assert!((6..=12).contains(&failed), "{failed}");

    // The attempts and the parked keys outlive the process.
    let follower = follower.restart().await;
    source.make("poison").await;
    source.make("last").await;
    follower.until(PARKED, 7).await;
    follower.until("SELECT count(*) FROM effects WHERE name = 'last'", 1).await;
    let effects = follower.effects().await;
    assert_eq!(effects.len(), 51, "each once: {effects:?}");
}

on_both!(event_that_does_not_decode_is_parked_and_one_of_an_unknown_type_is_passed_over);
async fn event_that_does_not_decode_is_parked_and_one_of_an_unknown_type_is_passed_over(databases: Databases) {
    let (source, follower) = failing(&databases).await;
    source.tell("things.v1.Made", "broken", vec![0xff]).await;
    source.tell("things.v1.Renamed", "one", vec![0xff]).await;
    source.make("one").await;
    follower.equals(&source).await;
    assert_eq!(follower.count(PARKED).await, 1);
    assert_eq!(follower.count("SELECT position FROM mesh_followers").await, 3);
}

#[tokio::test]
#[ignore = "needs Postgres: .ci/full"]
async fn event_that_fails_at_the_commit_is_parked() {
    let Some(databases) = Databases::postgres().await else { return };
    within_limit(async move {
        let (source, follower) = failing(&databases).await;
        let deferred = "ALTER TABLE shelved ADD UNIQUE (revision) DEFERRABLE INITIALLY DEFERRED";
        follower.execute(deferred).await;
        source.make("one").await;
        source.make("two").await;
        // With the next event in the same transaction, the constraint would hold.
        follower.until(PARKED, 1).await;
        source.make("two").await;
        follower.until(PARKED, 2).await;
        source.make("one").await;
        follower.until("SELECT revision FROM shelved", 2).await;
    })
    .await;
}

#[tokio::test]
async fn event_that_fails_at_the_commit_of_sqlite_is_parked() {
    within_limit(async {
        let (source, follower) = failing(&Databases::Sqlite).await;
        let deferred = "CREATE TABLE shelves (id TEXT NOT NULL PRIMARY KEY);
            CREATE TABLE places (shelf TEXT NOT NULL REFERENCES shelves (id) DEFERRABLE INITIALLY DEFERRED);
            CREATE TRIGGER placed AFTER INSERT ON shelved WHEN new.name = 'orphan' BEGIN
                INSERT INTO places (shelf) VALUES ('none');
            END";
        follower.execute(deferred).await;
        for name in ["one", "orphan", "two"] {
            source.make(name).await;
        }
        follower.until(PARKED, 1).await;
        follower.until("SELECT count(*) FROM shelved", 2).await;
    })
    .await;
}

#[tokio::test]
#[ignore = "needs Postgres: .ci/full"]
async fn event_whose_failed_statement_is_ignored_is_parked_on_postgres() {
    let Some(databases) = Databases::postgres().await else { return };
    within_limit(async move {
        let (source, follower) = failing(&databases).await;
        for name in ["one", "ignored", "two"] {
            source.make(name).await;
        }
        follower.until(PARKED, 1).await;
        follower.until("SELECT count(*) FROM shelved", 2).await;
    })
    .await;
}

on_both!(failure_that_passes_is_retried_until_it_does);
async fn failure_that_passes_is_retried_until_it_does(databases: Databases) {
    let (source, follower) = failing(&databases).await;
    source.make("one").await;
    source.make("busy").await;
    source.make("two").await;
    while follower.control.failed.load(Ordering::SeqCst) < 6 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(follower.is_ready().await);
    assert_eq!(follower.count(PARKED).await, 0);
    follower.control.fails.store(false, Ordering::SeqCst);
    follower.equals(&source).await;
    assert_eq!(follower.effects().await, {
        let mut events = source.events().await;
        events.sort();
        events
    });
}

on_both!(event_that_ends_its_process_is_parked);
async fn event_that_ends_its_process_is_parked(databases: Databases) {
    let source = Source::start(&databases).await;
    let proxy = Proxy::to(source.address());
    let follower = Follower::start(&databases, proxy.address).await;
    follower.equals(&source).await;
    proxy.refuse();
    source.make("killer").await;
    source.make("another").await;
    // With this holder, the drain releases nothing, as if the process had died.
    follower.execute("UPDATE mesh_followers SET holder = 'dead'").await;
    let mut stopped = follower.stop().await;
    for attempt in 1..=3 {
        let stands_still = Control { stops: true.into(), ..Control::default() };
        let follower = stopped.start(stands_still.into()).await;
        follower.until("SELECT count(*) FROM mesh_followers WHERE holder <> 'dead'", 1).await;
        follower.execute("UPDATE mesh_followers SET holder = 'dead'").await;
        proxy.heal();
        follower.until("SELECT attempt FROM mesh_followers", attempt).await;
        proxy.refuse();
        stopped = follower.stop().await;
    }
    proxy.heal();
    let follower = stopped.start(Arc::default()).await;
    follower.until("SELECT count(*) FROM mesh_parked_events WHERE key = 'killer'", 1).await;
    follower.until("SELECT count(*) FROM effects WHERE name = 'another'", 1).await;
    assert_eq!(follower.copy().await.len(), 1);
}

on_both!(follower_stops_when_more_than_a_hundred_keys_are_parked);
async fn follower_stops_when_more_than_a_hundred_keys_are_parked(databases: Databases) {
    let (source, follower) = failing(&databases).await;
    for number in 0..103 {
        source.make(&format!("poison {number}")).await;
    }
    source.make("one").await;
    follower.until("SELECT count(DISTINCT key) FROM mesh_parked_events", 101).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(follower.count(PARKED).await, 101);
    assert!(follower.copy().await.is_empty());
    assert!(follower.is_ready().await);

    // The program is mended, and an operator frees a key.
    follower.control.fails.store(false, Ordering::SeqCst);
    follower
        .execute("DELETE FROM mesh_parked_events WHERE key = 'poison 0'; UPDATE mesh_followers SET fence = fence + 1")
        .await;
    follower.until("SELECT count(*) FROM shelved", 3).await;
}

//! Each event takes effect once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::Proxy;

use crate::fixture::{Databases, Follower, Source};

/// Expects each event of the source once among the effects.
async fn took_effect_once(follower: &Follower, source: &Source) {
    let mut events = source.events().await;
    events.sort();
    assert_eq!(follower.effects().await, events);
}

on_both!(event_takes_effect_once_also_after_restarts);
async fn event_takes_effect_once_also_after_restarts(databases: Databases) {
    let source = Source::start(&databases).await;
    let mut follower = Follower::start(&databases, source.address()).await;
    follower.equals(&source).await;
    for round in 0..3 {
        for name in ["one", "two", "three"] {
            source.make(name).await;
        }
        source.make(&format!("of {round}")).await;
        source.remove("two").await;
        if round == 1 {
            follower.equals(&source).await;
        }
        follower = follower.restart().await;
    }
    follower.equals(&source).await;
    took_effect_once(&follower, &source).await;
    assert_eq!(follower.count("SELECT generation FROM mesh_followers").await, 1);
}

on_both!(event_takes_effect_once_in_one_process_with_its_source);
async fn event_takes_effect_once_in_one_process_with_its_source(databases: Databases) {
    let (source, follower) = Follower::start_with_source(&databases).await;
    follower.equals(&source).await;
    for name in ["one", "two", "one"] {
        source.make(name).await;
    }
    follower.equals(&source).await;
    took_effect_once(&follower, &source).await;
}

on_both!(event_takes_effect_once_over_a_stream_that_is_cut);
async fn event_takes_effect_once_over_a_stream_that_is_cut(databases: Databases) {
    let source = Source::start(&databases).await;
    let proxy = Proxy::to(source.address());
    let follower = Follower::start(&databases, proxy.address).await;
    follower.equals(&source).await;
    let cutting = async {
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            proxy.cut();
        }
    };
    let making = async {
        for number in 0..600 {
            source.make(&format!("thing {}", number % 17)).await;
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
    };
    tokio::join!(cutting, making);
    follower.equals(&source).await;
    took_effect_once(&follower, &source).await;
    assert!(proxy.accepted() > 5, "the streams broke");
}

on_both!(snapshot_gives_a_new_follower_what_exists);
async fn snapshot_gives_a_new_follower_what_exists(databases: Databases) {
    let source = Source::start(&databases).await;
    for number in 0..300 {
        source.make(&format!("thing {number:03}")).await;
    }
    source.remove("thing 007").await;
    let follower = Follower::start(&databases, source.address()).await;
    follower.equals(&source).await;
    source.make("another").await;
    follower.equals(&source).await;
    assert!(follower.effects().await.len() <= 2, "the state came by the snapshot");
}

on_both!(copy_is_complete_although_its_source_changes_meanwhile);
async fn copy_is_complete_although_its_source_changes_meanwhile(databases: Databases) {
    let source = Source::start(&databases).await;
    for number in 0..500 {
        source.make(&format!("thing {number:03}")).await;
    }
    let until_complete = AtomicBool::new(false);
    let changing = async {
        let mut number = 0;
        while !until_complete.load(Ordering::SeqCst) {
            source.make(&format!("thing {:03}", number % 600)).await;
            source.remove(&format!("thing {:03}", (number * 7) % 600)).await;
            number += 1;
        }
    };
    let completing = async {
        let follower = Follower::start(&databases, source.address()).await;
        while follower.copied.complete().is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        until_complete.store(true, Ordering::SeqCst);
        follower
    };
    let ((), follower) = tokio::join!(changing, completing);
    follower.equals(&source).await;
    assert_eq!(follower.count("SELECT COUNT(*) - COUNT(DISTINCT event) FROM effects").await, 0);
}

on_both!(lag_is_in_the_metrics);
async fn lag_is_in_the_metrics(databases: Databases) {
    let source = Source::start(&databases).await;
    let proxy = Proxy::to(source.address());
    let follower = Follower::start(&databases, proxy.address).await;
    follower.equals(&source).await;
    follower.control.stops.store(true, Ordering::SeqCst);
    for name in ["one", "two", "three"] {
        source.make(name).await;
    }
    let until = async |name: &str, expected: fn(f64) -> bool| {
        while !follower.metric(name).await.is_some_and(expected) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    until("mesh_follow_lag_seconds", |seconds| seconds > 0.5).await;
    until("mesh_follow_lag_events", |events| events >= 1.0).await;
    follower.control.stops.store(false, Ordering::SeqCst);
    until("mesh_follow_lag_events", |events| events == 0.0).await;
    until("mesh_follow_lag_seconds", |seconds| seconds == 0.0).await;
    until("mesh_follow_applied_total", |applied| applied == 3.0).await;
    proxy.refuse();
    until("mesh_follow_last_heard_seconds", |seconds| seconds > 2.0).await;
}

on_both!(follower_stays_ready_and_keeps_its_copy_without_its_source);
async fn follower_stays_ready_and_keeps_its_copy_without_its_source(databases: Databases) {
    let source = Source::start(&databases).await;
    source.make("one").await;
    let proxy = Proxy::to(source.address());
    proxy.refuse();
    let follower = Follower::start(&databases, proxy.address).await;
    assert!(follower.is_ready().await);
    assert_eq!(follower.copied.complete().unwrap_err().code(), tonic::Code::Unavailable);
    proxy.heal();
    follower.equals(&source).await;

    proxy.refuse();
    source.make("two").await;
    let follower = follower.restart().await;
    assert!(follower.is_ready().await);
    follower.copied.complete().unwrap();
    assert_eq!(follower.copy().await.len(), 1);
    proxy.heal();
    follower.equals(&source).await;
    assert_eq!(follower.effects().await, source.events().await[1..]);
}

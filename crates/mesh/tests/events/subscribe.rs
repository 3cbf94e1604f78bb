//! Snapshot, events and resumption.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mesh::operations::Start;
use mesh_proto::mesh::events::v1::subscribe_response::Frame;

use crate::fixture::{Fixture, Made, Make, make};

on_both!(reader_gets_the_present_state_and_then_each_change);
async fn reader_gets_the_present_state_and_then_each_change(fixture: Fixture) {
    fixture.make("one").await;
    fixture.make("two").await;
    let mut reader = fixture.follow(b"", &[]).await.unwrap();
    let Frame::Snapshot(first) = reader.next().await else { panic!("no snapshot") };
    assert_eq!((first.key.as_str(), first.id.as_str(), first.time), ("one", "", None));
    reader.catch_up().await;

    fixture.make("one").await;
    fixture.remove("two").await;
    let Frame::Event(made) = reader.next().await else { panic!("no event") };
    assert_eq!((made.key.as_str(), made.position, made.hops), ("one", 3, 0));
    assert!(made.time.is_some() && made.traceparent.starts_with("00-"));
    let parse = |id: &str| id.parse::<uuid::Uuid>().unwrap();
    assert_ne!(parse(&made.id), parse(&made.correlation_id));
    assert!(matches!(reader.next().await, Frame::Event(removed) if removed.key == "two"));
    assert_eq!((reader.copy.things, reader.copy.resets), (fixture.things().await, 0));
}

on_both!(reader_resumes_behind_each_frame_without_a_gap);
async fn reader_resumes_behind_each_frame_without_a_gap(fixture: Fixture) {
    // More than a page of snapshot, and of events.
    for n in 0..100 {
        fixture.make(&format!("{n:03}")).await;
    }
    let mut reader = fixture.follow(b"", &[]).await.unwrap();
    let mut n = 0;
    loop {
        let frame = reader.next().await;
        if n < 100 {
            fixture.make(&format!("{:03}", n + 50)).await;
        }
        n += 1;
        let copy = reader.copy;
        // It breaks behind each frame.
        reader = fixture.follow(&copy.cursor, &[]).await.unwrap();
        reader.copy = copy;
        if let Frame::CaughtUp(_) = frame {
            break;
        }
    }
    while reader.copy.position < 200 {
        if !matches!(reader.next().await, Frame::Event(_)) {
            reader.copy.caught_up = false;
        }
    }
    assert_eq!((reader.copy.things, reader.copy.resets), (fixture.things().await, 0));
}

on_both!(new_reader_is_equal_while_the_source_changes);
async fn new_reader_is_equal_while_the_source_changes(fixture: Fixture) {
    for n in 0..300 {
        fixture.make(&format!("{n:03}")).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writers = (0..8).map(|writer| {
        let (store, stop) = (fixture.store.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let name = format!("{:03}", (n * 7 + writer * 41) % 350);
                // Under load a transaction of Postgres may wait for too long.
                let _ = make(&store, &name).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut reader = fixture.follow(b"", &[]).await.unwrap();
    reader.catch_up().await;
    assert!(reader.copy.things.len() >= 300);
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let things = fixture.things().await;
    while reader.copy.things != things {
        reader.next().await;
    }
}

on_both!(filtered_reader_gets_only_its_types_and_its_cursor_advances);
async fn filtered_reader_gets_only_its_types_and_its_cursor_advances(fixture: Fixture) {
    fixture.make("one").await;
    let mut reader = fixture.follow(b"", &["things.v1.Removed"]).await.unwrap();
    assert!(matches!(reader.next().await, Frame::CaughtUp(_)), "the snapshot is of another type");
    let before = reader.copy.cursor.clone();
    fixture.make("one").await;
    fixture.remove("one").await;
    let Frame::Event(removed) = reader.next().await else { panic!("no event") };
    assert_eq!((removed.key.as_str(), removed.position), ("one", 3));
    // Behind the cursor of a reader, another one without a filter gets all of them.
    let mut all = fixture.follow(&before, &[]).await.unwrap();
    assert!(matches!(all.next().await, Frame::Event(made) if made.position == 2));

    // The cursors of frames without an event are those of the last event.
    let mut behind = fixture.follow_with(&before, &["things.v1.Made"], 5).await.unwrap();
    behind.catch_up().await;
    let mut again = fixture.follow(&behind.copy.cursor, &[]).await.unwrap();
    assert!(matches!(again.next().await, Frame::CaughtUp(_)));
    fixture.remove("two").await;
    while !matches!(behind.next().await, Frame::Heartbeat(_)) {}
    let mut again = fixture.follow(&behind.copy.cursor, &[]).await.unwrap();
    assert!(matches!(again.next().await, Frame::CaughtUp(_)));
}

#[tokio::test]
#[ignore = "needs Postgres: .ci/full"]
async fn reader_at_one_replica_gets_the_events_of_another() {
    let Some(fixture) = Fixture::postgres().await else { return };
    let other = fixture.replica().await;
    let mut reader = fixture.follow(b"", &[]).await.unwrap();
    reader.catch_up().await;
    for n in 1..=5 {
        other.make("one").await;
        let next = tokio::time::timeout(Duration::from_secs(5), reader.next()).await;
        assert!(matches!(next.unwrap(), Frame::Event(made) if made.position == n));
    }
    other.mesh.drain().await;
}

on_both!(step_of_long_work_publishes_in_its_transaction);
async fn step_of_long_work_publishes_in_its_transaction(fixture: Fixture) {
    let mut reader = fixture.follow(b"", &[]).await.unwrap();
    reader.catch_up().await;
    let request = Made { name: "one".to_owned(), revision: 1 };
    let start = Start::<Make>::new(uuid::Uuid::new_v4(), &request);
    fixture.operations.start(&start).await.unwrap();
    assert!(matches!(reader.next().await, Frame::Event(made) if made.key == "one"));
    assert_eq!(reader.copy.things, fixture.things().await);
}

//! Following one operation.

use std::time::{Duration, Instant};

use mesh_proto::mesh::operations::v1::operation_events_service_client::OperationEventsServiceClient;
use mesh_proto::mesh::operations::v1::{Progress, WatchRequest, watch_response};
use tonic::transport::Channel;

use crate::bench::{Bench, FAIL_ONCE, HANG, SUCCEED, metadata, watch};

on_both!(nobody_who_waits_misses_the_end);
async fn nobody_who_waits_misses_the_end(bench: Bench) {
    let all = (0..300).map(async |_| {
        let name = bench.begin(0, SUCCEED).await;
        tokio::join!(bench.wait(&name), async {
            let mut watch = bench.watch(&name, Vec::new()).await;
            let mut last = None;
            while let Some((_, operation)) = watch.next().await {
                last = Some(operation);
            }
            assert!(last.unwrap().done);
        });
    });
    futures_util::future::join_all(all).await;
}

on_both!(a_watcher_that_is_cut_after_every_frame_misses_nothing_and_sees_nothing_twice);
async fn a_watcher_that_is_cut_after_every_frame_misses_nothing_and_sees_nothing_twice(bench: Bench) {
    let name = bench.begin(30, FAIL_ONCE).await;
    let (mut cursor, first) = bench.watch(&name, Vec::new()).await.next().await.unwrap();
    let mut seen = vec![first];
    while !seen.last().unwrap().done {
        // A new stream for every frame: what was read ahead of the cursor is lost with the old one.
        let (next, operation) = bench.watch(&name, cursor).await.next().await.unwrap();
        cursor = next;
        seen.push(operation);
    }
    let from = metadata(&seen[0]).revision;
    let revisions: Vec<_> = seen.iter().map(|operation| metadata(operation).revision).collect();
    assert_eq!(revisions, (from..from + i64::try_from(seen.len()).unwrap()).collect::<Vec<_>>());
    assert!(bench.history(&name).await.ends_with(&seen[1..]));
}

on_both!(who_comes_back_after_the_end_is_told_the_end);
async fn who_comes_back_after_the_end_is_told_the_end(bench: Bench) {
    let name = bench.begin(1, SUCCEED).await;
    bench.wait(&name).await;
    let mut watch = bench.watch(&name, Vec::new()).await;
    let (cursor, end) = watch.next().await.unwrap();
    assert!(end.done && watch.next().await.is_none());
    let mut again = bench.watch(&name, cursor).await;
    assert_eq!(again.next().await.unwrap().1, end);
    assert!(again.next().await.is_none());
}

on_both!(a_cursor_ahead_of_the_database_or_of_another_one_is_answered_with_a_gap);
async fn a_cursor_ahead_of_the_database_or_of_another_one_is_answered_with_a_gap(bench: Bench) {
    let name = bench.begin(1, SUCCEED).await;
    bench.wait(&name).await;
    let cursor = bench.watch(&name, Vec::new()).await.next().await.unwrap().0;
    let ahead = [&cursor[..cursor.len() - 8], &99_i64.to_be_bytes()].concat();
    let elsewhere = [&[7; 16], &cursor[16..]].concat();
    for cursor in [ahead, elsewhere] {
        let mut watch = bench.watch(&name, cursor).await;
        let gap = watch.stream.message().await.unwrap().unwrap();
        assert!(matches!(gap.event, Some(watch_response::Event::Gap(_))), "{gap:?}");
        assert!(watch.next().await.unwrap().1.done);
        assert!(watch.next().await.is_none());
    }
}

on_both!(who_is_cut_off_behind_a_gap_is_given_the_snapshot);
async fn who_is_cut_off_behind_a_gap_is_given_the_snapshot(bench: Bench) {
    let name = bench.begin(0, HANG).await;
    bench.running(&name).await;
    let ahead = bench.cursor(&name, 99).await;
    let gap = bench.watch(&name, ahead).await.stream.message().await.unwrap().unwrap();
    assert!(matches!(gap.event, Some(watch_response::Event::Gap(_))), "{gap:?}");
    let snapshot = bench.watch(&name, gap.cursor).await.next().await.unwrap();
    assert_eq!(snapshot.1, bench.get(&name).await);
}

on_both!(who_wants_the_end_only_is_told_it_at_once);
async fn who_wants_the_end_only_is_told_it_at_once(bench: Bench) {
    // More than a page of what is not wanted.
    let name = bench.begin(200, SUCCEED).await;
    bench.wait(&name).await;
    let (cursor, progress) = (bench.cursor(&name, 1).await, Progress::TerminalOnly.into());
    let request = WatchRequest { name, cursor, progress, ..WatchRequest::default() };
    let mut events = OperationEventsServiceClient::new(bench.channel.clone());
    let mut stream = events.watch(request).await.unwrap().into_inner();
    let end = tokio::time::timeout(Duration::from_secs(4), stream.message()).await.unwrap().unwrap().unwrap();
    assert!(matches!(end.event, Some(watch_response::Event::Update(operation)) if operation.done));
    assert!(stream.message().await.unwrap().is_none());
}

on_both!(a_quiet_operation_is_heard_of_by_its_heartbeat);
async fn a_quiet_operation_is_heard_of_by_its_heartbeat(bench: Bench) {
    let name = bench.begin(0, HANG).await;
    bench.running(&name).await;
    // Other operations change meanwhile, and are nobody's concern here.
    let other = bench.begin(1, SUCCEED).await;
    let heartbeat = Some(prost_types::Duration { seconds: 5, nanos: 0 });
    let request = WatchRequest { name, heartbeat, ..WatchRequest::default() };
    let mut events = OperationEventsServiceClient::new(bench.channel.clone());
    let mut stream = events.watch(request).await.unwrap().into_inner();
    let snapshot = stream.message().await.unwrap().unwrap();
    let beat = tokio::time::timeout(Duration::from_secs(8), stream.message()).await.unwrap();
    let beat = beat.unwrap().unwrap();
    assert!(matches!(beat.event, Some(watch_response::Event::Heartbeat(_))), "{beat:?}");
    assert_eq!(beat.cursor, snapshot.cursor);
    bench.wait(&other).await;
}

/// A watcher that does not read is a page and a window, not a queue: what it has missed is in the database, and which
/// one that is makes no difference to this process.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn watchers_that_never_read_do_not_grow_the_process() {
    // In a process of its own, where no other test grows meanwhile.
    const ALONE: &str = "OPERATIONS_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        alone.args(["--exact", "watch::watchers_that_never_read_do_not_grow_the_process"]).env(ALONE, "");
        let told = tokio::task::spawn_blocking(move || alone.output()).await.unwrap().unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stdout));
        return;
    }
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let bench = Bench::sqlite().await;
    let name = bench.begin(2000, SUCCEED).await;
    bench.running(&name).await;
    // On a connection of their own: who does not read fills the window that all streams of a connection share.
    let apart = Channel::from_shared(bench.mesh.url()).unwrap().connect().await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(watch(apart.clone(), &name, Vec::new()).await);
    }
    let before = resident();
    bench.wait(&name).await;
    let grown = resident().saturating_sub(before);
    // Every event for every watcher would be 100 times 2000 times 350 bytes: 70 MB.
    assert!(grown < 35 * 1024 * 1024, "grown by {} MB", grown / 1024 / 1024);

    // And nothing is lost for it.
    silent.truncate(1);
    let mut watch = silent.pop().unwrap();
    let mut last = None;
    while let Some((_, operation)) = watch.next().await {
        last = Some(operation);
    }
    assert!(last.unwrap().done);
}

/// Only Postgres has more than one process at a database.
#[tokio::test]
#[ignore = "needs Postgres: .ci/full"]
async fn what_another_process_does_to_an_operation_is_told_within_the_poll() {
    let Some(bench) = Bench::postgres().await else { return };
    let other = bench.beside().await;
    for _ in 0..3 {
        let name = bench.begin_asleep().await;
        let mut watch = bench.watch(&name, Vec::new()).await;
        assert!(!watch.next().await.unwrap().1.done);
        let start = Instant::now();
        other.cancel(&name).await;
        assert!(watch.next().await.unwrap().1.done);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}

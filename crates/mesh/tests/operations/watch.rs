//! Watch: one operation.

use std::time::{Duration, Instant};

use mesh_proto::google::longrunning::WaitOperationRequest;
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::mesh::operations::v1::operation_events_service_client::OperationEventsServiceClient;
use mesh_proto::mesh::operations::v1::{Progress, WatchRequest, watch_response};
use tonic::transport::Channel;

use crate::fixture::{FAIL_ONCE, Fixture, HANG, SUCCEED, metadata, watch};

on_both!(wait_and_watch_never_miss_the_end);
async fn wait_and_watch_never_miss_the_end(fixture: Fixture) {
    let all = (0..300).map(async |_| {
        let name = fixture.start(0, SUCCEED).await;
        tokio::join!(fixture.wait(&name), async {
            let mut watch = fixture.watch(&name, Vec::new()).await;
            let mut last = None;
            while let Some((_, operation)) = watch.next().await {
                last = Some(operation);
            }
            assert!(last.unwrap().done);
        });
    });
    futures_util::future::join_all(all).await;
}

on_both!(watch_cut_after_every_frame_misses_and_repeats_nothing);
async fn watch_cut_after_every_frame_misses_and_repeats_nothing(fixture: Fixture) {
    let name = fixture.start(30, FAIL_ONCE).await;
    let (mut cursor, first) = fixture.watch(&name, Vec::new()).await.next().await.unwrap();
    let mut seen = vec![first];
    while !seen.last().unwrap().done {
        // A new stream for every frame: the old one loses the rows that it has read ahead.
        let (next, operation) = fixture.watch(&name, cursor).await.next().await.unwrap();
        cursor = next;
        seen.push(operation);
    }
    let from = metadata(&seen[0]).revision;
    let revisions: Vec<_> = seen.iter().map(|operation| metadata(operation).revision).collect();
    assert_eq!(revisions, (from..from + i64::try_from(seen.len()).unwrap()).collect::<Vec<_>>());
    assert!(fixture.history(&name).await.ends_with(&seen[1..]));
}

on_both!(watchers_of_one_operation_get_the_same_history);
async fn watchers_of_one_operation_get_the_same_history(fixture: Fixture) {
    let name = fixture.start(200, SUCCEED).await;
    let cursor = fixture.cursor(&name, 1).await;
    let watchers = (0..50).map(async |watcher| {
        // One begins later, and one stops within: both have to catch up with the others.
        let late = Duration::from_millis(if watcher == 1 { 50 } else { 0 });
        tokio::time::sleep(late).await;
        let (mut watch, mut seen) = (fixture.watch(&name, cursor.clone()).await, Vec::new());
        while let Some((_, operation)) = watch.next().await {
            seen.push(operation);
            if watcher == 2 && seen.len() == 1 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        seen
    });
    let histories = futures_util::future::join_all(watchers).await;
    let whole = fixture.history(&name).await;
    assert_eq!(whole.len(), 202);
    assert!(histories.into_iter().all(|history| history == whole));
}

on_both!(watch_resumed_after_the_end_sends_the_end);
async fn watch_resumed_after_the_end_sends_the_end(fixture: Fixture) {
    let name = fixture.start(1, SUCCEED).await;
    fixture.wait(&name).await;
    let mut watch = fixture.watch(&name, Vec::new()).await;
    let (cursor, end) = watch.next().await.unwrap();
    assert!(end.done && watch.next().await.is_none());
    let mut again = fixture.watch(&name, cursor).await;
    assert_eq!(again.next().await.unwrap().1, end);
    assert!(again.next().await.is_none());
}

on_both!(watch_from_an_invalid_cursor_begins_with_a_gap);
async fn watch_from_an_invalid_cursor_begins_with_a_gap(fixture: Fixture) {
    let name = fixture.start(1, SUCCEED).await;
    fixture.wait(&name).await;
    let cursor = fixture.watch(&name, Vec::new()).await.next().await.unwrap().0;
    let ahead = [&cursor[..cursor.len() - 8], &99_i64.to_be_bytes()].concat();
    let elsewhere = [&[7; 16], &cursor[16..]].concat();
    for cursor in [ahead, elsewhere] {
        let mut watch = fixture.watch(&name, cursor).await;
        let gap = watch.stream.message().await.unwrap().unwrap();
        assert!(matches!(gap.event, Some(watch_response::Event::Gap(_))), "{gap:?}");
        assert!(watch.next().await.unwrap().1.done);
        assert!(watch.next().await.is_none());
    }
}

on_both!(watch_resumed_behind_a_gap_sends_the_snapshot);
async fn watch_resumed_behind_a_gap_sends_the_snapshot(fixture: Fixture) {
    let name = fixture.start(0, HANG).await;
    fixture.running(&name).await;
    let ahead = fixture.cursor(&name, 99).await;
    let gap = fixture.watch(&name, ahead).await.stream.message().await.unwrap().unwrap();
    assert!(matches!(gap.event, Some(watch_response::Event::Gap(_))), "{gap:?}");
    let snapshot = fixture.watch(&name, gap.cursor).await.next().await.unwrap();
    assert_eq!(snapshot.1, fixture.get(&name).await);
}

on_both!(watch_of_the_end_only_sends_it_at_once);
async fn watch_of_the_end_only_sends_it_at_once(fixture: Fixture) {
    // More than a page of events that are filtered out.
    let name = fixture.start(200, SUCCEED).await;
    fixture.wait(&name).await;
    let (cursor, progress) = (fixture.cursor(&name, 1).await, Progress::TerminalOnly.into());
    let request = WatchRequest { name, cursor, progress, ..WatchRequest::default() };
    let mut events = OperationEventsServiceClient::new(fixture.channel.clone());
    let mut stream = events.watch(request).await.unwrap().into_inner();
    let end = tokio::time::timeout(Duration::from_secs(4), stream.message()).await.unwrap().unwrap().unwrap();
    assert!(matches!(end.event, Some(watch_response::Event::Update(operation)) if operation.done));
    assert!(stream.message().await.unwrap().is_none());
}

on_both!(watch_of_a_quiet_operation_sends_heartbeats);
async fn watch_of_a_quiet_operation_sends_heartbeats(fixture: Fixture) {
    let name = fixture.start(0, HANG).await;
    fixture.running(&name).await;
    // The changes of another operation are not sent.
    let other = fixture.start(1, SUCCEED).await;
    let heartbeat = Some(prost_types::Duration { seconds: 5, nanos: 0 });
    let request = WatchRequest { name, heartbeat, ..WatchRequest::default() };
    let mut events = OperationEventsServiceClient::new(fixture.channel.clone());
    let mut stream = events.watch(request).await.unwrap().into_inner();
    let snapshot = stream.message().await.unwrap().unwrap();
    let beat = tokio::time::timeout(Duration::from_secs(8), stream.message()).await.unwrap();
    let beat = beat.unwrap().unwrap();
    assert!(matches!(beat.event, Some(watch_response::Event::Heartbeat(_))), "{beat:?}");
    assert_eq!(beat.cursor, snapshot.cursor);
    fixture.wait(&other).await;
}

/// A watcher that does not read costs a page and a window, not a queue: its events are in the database. SQLite only:
/// the memory of the process does not depend on the database.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn watchers_that_never_read_do_not_grow_the_process() {
    // In a process of its own, where no other test allocates memory.
    const ALONE: &str = "OPERATIONS_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        alone.args(["--exact", "watch::watchers_that_never_read_do_not_grow_the_process"]).env(ALONE, "");
        let output = tokio::task::spawn_blocking(move || alone.output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let fixture = Fixture::sqlite().await;
    let name = fixture.start(2000, SUCCEED).await;
    fixture.running(&name).await;
    // On a connection of their own: unread frames fill the window that all streams of a connection share.
    let apart = Channel::from_shared(fixture.mesh.url()).unwrap().connect().await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(watch(apart.clone(), &name, Vec::new()).await);
    }
    let before = resident();
    fixture.wait(&name).await;
    let grown = resident().saturating_sub(before);
    // Every event for every watcher would be 100 times 2000 times 350 bytes: 70 MB.
    assert!(grown < 35 * 1024 * 1024, "grown by {} MB", grown / 1024 / 1024);

    // No event is lost.
    silent.truncate(1);
    let mut watch = silent.pop().unwrap();
    let mut last = None;
    while let Some((_, operation)) = watch.next().await {
        last = Some(operation);
    }
    assert!(last.unwrap().done);
}

/// Postgres only: SQLite has one process at a database.
#[tokio::test]
#[ignore = "needs Postgres: .ci/full"]
async fn watch_sends_changes_of_another_process_within_the_poll() {
    let Some(fixture) = Fixture::postgres().await else { return };
    let other = fixture.replica().await;
    for _ in 0..3 {
        let name = fixture.start_delayed().await;
        let mut watch = fixture.watch(&name, Vec::new()).await;
        assert!(!watch.next().await.unwrap().1.done);
        let start = Instant::now();
        other.cancel(&name).await;
        assert!(watch.next().await.unwrap().1.done);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}

on_both!(poll_reads_the_counters_of_followed_callers_only);
async fn poll_reads_the_counters_of_followed_callers_only(fixture: Fixture) {
    let name = fixture.start_delayed().await;
    // Many other callers, whose counters have no sum.
    fixture.tamper("INSERT INTO feed_owner (owner, next, floor) VALUES ('a', 9223372036854775807, 1)").await;
    fixture.tamper("INSERT INTO feed_owner (owner, next, floor) VALUES ('b', 9223372036854775807, 1)").await;
    let waiting = tokio::spawn({
        let (channel, name) = (fixture.channel.clone(), name.clone());
        async move {
            let timeout = Some(prost_types::Duration { seconds: 20, nanos: 0 });
            let request = WaitOperationRequest { name, timeout };
            OperationsClient::new(channel).wait_operation(request).await.unwrap().into_inner()
        }
    });
    // A later call on the same connection: the wait has arrived, and its first poll may have passed.
    fixture.get(&name).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // As another process would end it, without a notification here.
    fixture.tamper("UPDATE operations SET state = 5, revision = revision + 1").await;
    fixture.tamper("UPDATE feed_owner SET next = next + 1 WHERE owner = 'anonymous'").await;
    assert!(waiting.await.unwrap().done);
}

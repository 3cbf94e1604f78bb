//! Subscribe: all operations of a caller.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use mesh_proto::google::longrunning::Operation;
use mesh_proto::mesh::operations::v1::operation_events_service_client::OperationEventsServiceClient;
use mesh_proto::mesh::operations::v1::subscribe_response::Frame;
use mesh_proto::mesh::operations::v1::{Change, State, SubscribeRequest, SubscribeResponse};
use tonic::{Code, Status, Streaming};

use crate::fixture::{Echo, FAIL_ONCE, Fixture, HANG, SUCCEED, metadata, refused};

/// A stream of Subscribe.
struct Feed(Streaming<SubscribeResponse>);

async fn ask(fixture: &Fixture, request: SubscribeRequest) -> Result<Feed, Status> {
    let mut events = OperationEventsServiceClient::new(fixture.channel.clone());
    Ok(Feed(events.subscribe(request).await?.into_inner()))
}

fn everything(cursor: &[u8]) -> SubscribeRequest {
    SubscribeRequest { parent: "services/work".to_owned(), cursor: cursor.to_vec(), ..SubscribeRequest::default() }
}

async fn subscribe(fixture: &Fixture, cursor: &[u8]) -> Feed {
    ask(fixture, everything(cursor)).await.unwrap()
}

/// The cursor behind all events so far.
async fn now(fixture: &Fixture) -> Vec<u8> {
    let mut feed = subscribe(fixture, b"").await;
    loop {
        if let (cursor, Frame::CaughtUp(_)) = feed.next().await {
            return cursor;
        }
    }
}

impl Feed {
    /// The next frame, and its cursor.
    async fn next(&mut self) -> (Vec<u8>, Frame) {
        let frame = self.0.message().await.unwrap().expect("Subscribe never ends by itself");
        (frame.cursor, frame.frame.unwrap())
    }

    /// The next event, and its cursor.
    async fn event(&mut self) -> (Vec<u8>, Operation) {
        loop {
            match self.next().await {
                (cursor, Frame::Event(event)) => return (cursor, event.operation.unwrap()),
                (_, Frame::CaughtUp(_) | Frame::Heartbeat(_)) => {}
                (_, frame) => panic!("{frame:?}"),
            }
        }
    }

    /// All events until `ends` operations have ended.
    async fn events(mut self, ends: usize) -> Vec<(Vec<u8>, Operation)> {
        let mut events = Vec::new();
        let mut ended = 0;
        while ended < ends {
            events.push(self.event().await);
            ended += usize::from(events.last().unwrap().1.done);
        }
        events
    }

    /// Checks the first frames of a stream whose cursor is invalid.
    async fn assert_reset(&mut self, open: &str) {
        assert!(matches!(self.next().await.1, Frame::Reset(_)));
        assert!(matches!(self.next().await.1, Frame::Snapshot(operation) if operation.name == open));
        assert!(matches!(self.next().await.1, Frame::CaughtUp(_)));
    }
}

/// The position in a cursor: epoch, position (big-endian), and within a snapshot a third part.
fn position(cursor: &[u8]) -> i64 {
    i64::from_be_bytes(cursor[16..24].try_into().unwrap())
}

/// Checks that positions have no hole, and that each operation has every revision.
fn assert_whole(events: &[(Vec<u8>, Operation)]) {
    assert!(events.windows(2).all(|two| position(&two[0].0) + 1 == position(&two[1].0)), "a hole");
    let mut revisions: HashMap<_, i64> = HashMap::new();
    for (_, operation) in events {
        let last = revisions.entry(&operation.name).or_default();
        *last += 1;
        assert_eq!(metadata(operation).revision, *last, "{operation:?}");
    }
}

on_both!(subscribe_sends_a_snapshot_then_events);
async fn subscribe_sends_a_snapshot_then_events(fixture: Fixture) {
    let open = fixture.start(0, HANG).await;
    fixture.running(&open).await;
    fixture.wait(&fixture.start(0, SUCCEED).await).await;
    let mut feed = subscribe(&fixture, b"").await;
    let Frame::Snapshot(snapshot) = feed.next().await.1 else { panic!("a snapshot first") };
    assert_eq!(snapshot, fixture.get(&open).await);
    assert!(matches!(feed.next().await.1, Frame::CaughtUp(_)));

    let name = fixture.start(1, SUCCEED).await;
    for (state, change) in [
        (State::Pending, Change::State),
        (State::Running, Change::State),
        (State::Running, Change::Progress),
        (State::Succeeded, Change::State),
    ] {
        let (_, Frame::Event(event)) = feed.next().await else { panic!("an event") };
        let operation = event.operation.as_ref().unwrap();
        assert_eq!((&operation.name, metadata(operation).state(), event.change()), (&name, state, change));
    }
}

on_both!(subscribe_cut_after_every_frame_sends_the_whole_history);
async fn subscribe_cut_after_every_frame_sends_the_whole_history(fixture: Fixture) {
    let begin = now(&fixture).await;
    let whole = subscribe(&fixture, &begin).await.events(10);
    let cut = async {
        let (mut cursor, mut events, mut ended) = (begin.clone(), Vec::new(), 0);
        while ended < 10 {
            events.push(subscribe(&fixture, &cursor).await.event().await);
            cursor.clone_from(&events.last().unwrap().0);
            ended += usize::from(events.last().unwrap().1.done);
        }
        events
    };
    let work = async {
        for _ in 0..10 {
            fixture.start(5, FAIL_ONCE).await;
        }
    };
    let (whole, cut, ()) = tokio::join!(whole, cut, work);
    assert_whole(&whole);
    assert_eq!(whole, cut);
}

on_both!(subscribe_snapshot_cut_after_every_frame_is_complete);
async fn subscribe_snapshot_cut_after_every_frame_is_complete(fixture: Fixture) {
    // More than a page.
    let mut names = Vec::new();
    for _ in 0..100 {
        names.push(fixture.start_delayed().await);
    }
    let (mut cursor, mut latest) = (Vec::new(), HashMap::new());
    loop {
        let (next, frame) = subscribe(&fixture, &cursor).await.next().await;
        let Frame::Snapshot(operation) = frame else { break };
        cursor = next;
        assert_eq!(latest.insert(operation.name.clone(), operation), None, "sent twice");
        if latest.len() == 30 {
            // One operation that was sent, and three that were not, of which one ends.
            for name in [&names[20], &names[50], &names[99]] {
                fixture.release(name).await;
            }
            fixture.cancel(&names[60]).await;
        }
    }
    assert_eq!(latest.len(), 97, "the feed sends changes during the snapshot");
    let mut feed = subscribe(&fixture, &cursor).await;
    // The events before the next frame of another type.
    while let Frame::Event(event) = feed.next().await.1 {
        let operation = event.operation.unwrap();
        latest.insert(operation.name.clone(), operation);
    }
    for name in &names {
        assert_eq!(latest[name], fixture.get(name).await);
    }
}

on_both!(subscribers_get_the_same_events_in_the_same_order);
async fn subscribers_get_the_same_events_in_the_same_order(fixture: Fixture) {
    let begin = now(&fixture).await;
    let all = (0..4).map(async |_| subscribe(&fixture, &begin).await.events(100).await);
    let all = futures_util::future::join_all(all);
    let work = futures_util::future::join_all((0..100).map(async |_| fixture.start(2, SUCCEED).await));
    let (all, _) = tokio::join!(all, work);
    assert_eq!(all[0].len(), 500);
    assert_whole(&all[0]);
    assert!(all.iter().all(|events| events == &all[0]));
}

on_both!(subscribe_from_an_invalid_cursor_begins_with_a_reset);
async fn subscribe_from_an_invalid_cursor_begins_with_a_reset(fixture: Fixture) {
    let begin = now(&fixture).await;
    let open = fixture.start(0, HANG).await;
    fixture.running(&open).await;
    let last = now(&fixture).await;
    let ahead = [&last[..16], &99_i64.to_be_bytes()].concat();
    let elsewhere = [&[7; 16], &last[16..]].concat();
    for cursor in [ahead, elsewhere] {
        let mut feed = subscribe(&fixture, &cursor).await;
        feed.assert_reset(&open).await;
    }
    // A stream that is cut behind the reset resumes with the snapshot.
    let reset = subscribe(&fixture, &[&[7; 16], &last[16..]].concat()).await.next().await.0;
    assert!(matches!(subscribe(&fixture, &reset).await.next().await.1, Frame::Snapshot(_)));

    fixture.tamper("UPDATE feed SET told = 1").await;
    let fixture = fixture.restart().await;
    fixture.until("SELECT COUNT(*) FROM feed WHERE told = 1", 0).await;
    fixture.running(&open).await;
    subscribe(&fixture, &begin).await.assert_reset(&open).await;
    assert_eq!(position(&subscribe(&fixture, &last).await.event().await.0), position(&last) + 1, "nothing is missing");

    // As --renew-epoch does.
    fixture.tamper("UPDATE store_meta SET epoch = '00000000-0000-4000-8000-000000000000'").await;
    let last = now(&fixture).await;
    let fixture = fixture.restart().await;
    fixture.running(&open).await;
    subscribe(&fixture, &last).await.assert_reset(&open).await;
}

on_both!(subscribe_resets_when_rows_are_deleted_under_the_stream);
async fn subscribe_resets_when_rows_are_deleted_under_the_stream(fixture: Fixture) {
    let open = fixture.start(0, HANG).await;
    fixture.running(&open).await;
    let mut feed = subscribe(&fixture, b"").await;
    while !matches!(feed.next().await.1, Frame::CaughtUp(_)) {}
    // Rows are committed and deleted before the stream reads them.
    let mut tx = fixture.store.begin().await.unwrap();
    sqlx::query("UPDATE feed_owner SET next = next + 3, floor = next + 4").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    fixture.cancel(&open).await;
    assert!(matches!(feed.next().await.1, Frame::Reset(_)));
    let mut frame = feed.next().await.1;
    while !matches!(frame, Frame::CaughtUp(_)) {
        // The operation may end while the snapshot is read, and its end is an event then.
        assert!(matches!(frame, Frame::Snapshot(_) | Frame::Event(_)), "{frame:?}");
        frame = feed.next().await.1;
    }
}

on_both!(subscribe_filter_skips_other_events_and_advances_the_cursor);
async fn subscribe_filter_skips_other_events_and_advances_the_cursor(fixture: Fixture) {
    let begin = now(&fixture).await;
    let wants = |cursor: &[u8]| SubscribeRequest {
        kinds: vec!["Echo".to_owned()],
        terminal_only: true,
        heartbeat: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        ..everything(cursor)
    };
    let mut feed = ask(&fixture, wants(&begin)).await.unwrap();
    let echo = fixture.start_kind::<Echo>(prost_types::Duration::default()).await;
    let (_, end) = feed.event().await;
    assert!(end.name == echo && end.done);

    // A page of other events.
    fixture.wait(&fixture.start(100, SUCCEED).await).await;
    let last = now(&fixture).await;
    let heartbeat = tokio::time::timeout(Duration::from_secs(8), feed.next()).await.unwrap();
    assert!(matches!(heartbeat.1, Frame::Heartbeat(_)), "{heartbeat:?}");
    assert_eq!(heartbeat.0, last, "the cursor has passed the filtered events");

    // A replay passes the page, too.
    let mut feed = ask(&fixture, wants(&begin)).await.unwrap();
    assert!(matches!(feed.next().await.1, Frame::Event(_)));
    let (cursor, caught_up) = feed.next().await;
    assert!(matches!(caught_up, Frame::CaughtUp(_)), "{caught_up:?}");
    assert_eq!(cursor, last);
}

on_both!(subscribe_refuses_unknown_services_and_malformed_cursors);
async fn subscribe_refuses_unknown_services_and_malformed_cursors(fixture: Fixture) {
    let parent = |parent: &str| SubscribeRequest { parent: parent.to_owned(), ..everything(b"") };
    let answers = [
        (parent("services/unknown"), (Code::NotFound, "SERVICE_NOT_FOUND")),
        (parent("work"), (Code::InvalidArgument, "INVALID_FIELDS")),
        (everything(b"nonsense"), (Code::InvalidArgument, "INVALID_FIELDS")),
    ];
    for (request, (code, reason)) in answers {
        assert_eq!(refused(ask(&fixture, request).await.map(|_| ())), (code, reason.to_owned()));
    }
}

/// Postgres only: SQLite has one process at a database.
#[tokio::test]
#[ignore = "needs Postgres: .ci/full"]
async fn subscribe_sends_commits_of_another_process_within_the_poll() {
    let Some(fixture) = Fixture::postgres().await else { return };
    let other = fixture.replica().await;
    let mut feed = subscribe(&fixture, &now(&fixture).await).await;
    for _ in 0..3 {
        let start = Instant::now();
        // No worker claims it, so this process commits nothing that would notify the stream.
        let started = other.start_delayed().await;
        let event = tokio::time::timeout(Duration::from_secs(5), feed.event()).await.unwrap();
        assert_eq!(event.1.name, started);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}

//! Following all operations.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use mesh_proto::google::longrunning::Operation;
use mesh_proto::mesh::operations::v1::operation_events_service_client::OperationEventsServiceClient;
use mesh_proto::mesh::operations::v1::subscribe_response::Frame;
use mesh_proto::mesh::operations::v1::{Change, State, SubscribeRequest, SubscribeResponse};
use tonic::{Code, Status, Streaming};

use crate::bench::{Bench, Echo, FAIL_ONCE, HANG, SUCCEED, metadata, refused};

/// One stream.
struct Feed(Streaming<SubscribeResponse>);

async fn ask(bench: &Bench, request: SubscribeRequest) -> Result<Feed, Status> {
    let mut events = OperationEventsServiceClient::new(bench.channel.clone());
    Ok(Feed(events.subscribe(request).await?.into_inner()))
}

fn everything(cursor: &[u8]) -> SubscribeRequest {
    SubscribeRequest { parent: "services/work".to_owned(), cursor: cursor.to_vec(), ..SubscribeRequest::default() }
}

async fn subscribe(bench: &Bench, cursor: &[u8]) -> Feed {
    ask(bench, everything(cursor)).await.unwrap()
}

/// The cursor of who has been told everything so far.
async fn now(bench: &Bench) -> Vec<u8> {
    let mut feed = subscribe(bench, b"").await;
    loop {
        if let (cursor, Frame::CaughtUp(_)) = feed.next().await {
            return cursor;
        }
    }
}

impl Feed {
    /// The next that is told.
    async fn next(&mut self) -> (Vec<u8>, Frame) {
        let frame = self.0.message().await.unwrap().expect("it never ends by itself");
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

    /// All events until so many operations have ended.
    async fn events(mut self, ends: usize) -> Vec<(Vec<u8>, Operation)> {
        let mut events = Vec::new();
        let mut ended = 0;
        while ended < ends {
            events.push(self.event().await);
            ended += usize::from(events.last().unwrap().1.done);
        }
        events
    }

    /// What a stream begins with that cannot go on where its cursor is.
    async fn assert_reset(&mut self, open: &str) {
        assert!(matches!(self.next().await.1, Frame::Reset(_)));
        assert!(matches!(self.next().await.1, Frame::Snapshot(operation) if operation.name == open));
        assert!(matches!(self.next().await.1, Frame::CaughtUp(_)));
    }
}

/// A cursor is an epoch and a position, big-endian; a third part if it is one within a snapshot.
fn position(cursor: &[u8]) -> i64 {
    i64::from_be_bytes(cursor[16..24].try_into().unwrap())
}

/// Positions without a hole, and of each operation every revision.
fn assert_whole(events: &[(Vec<u8>, Operation)]) {
    assert!(events.windows(2).all(|two| position(&two[0].0) + 1 == position(&two[1].0)), "a hole");
    let mut revisions: HashMap<_, i64> = HashMap::new();
    for (_, operation) in events {
        let last = revisions.entry(&operation.name).or_default();
        *last += 1;
        assert_eq!(metadata(operation).revision, *last, "{operation:?}");
    }
}

on_both!(what_is_not_done_comes_first_and_then_what_happens);
async fn what_is_not_done_comes_first_and_then_what_happens(bench: Bench) {
    let open = bench.begin(0, HANG).await;
    bench.running(&open).await;
    bench.wait(&bench.begin(0, SUCCEED).await).await;
    let mut feed = subscribe(&bench, b"").await;
    let Frame::Snapshot(snapshot) = feed.next().await.1 else { panic!("a snapshot first") };
    assert_eq!(snapshot, bench.get(&open).await);
    assert!(matches!(feed.next().await.1, Frame::CaughtUp(_)));

    let name = bench.begin(1, SUCCEED).await;
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

on_both!(a_stream_that_is_cut_after_every_frame_is_the_whole_history);
async fn a_stream_that_is_cut_after_every_frame_is_the_whole_history(bench: Bench) {
    let begin = now(&bench).await;
    let whole = subscribe(&bench, &begin).await.events(10);
    let cut = async {
        let (mut cursor, mut events, mut ended) = (begin.clone(), Vec::new(), 0);
        while ended < 10 {
            events.push(subscribe(&bench, &cursor).await.event().await);
            cursor.clone_from(&events.last().unwrap().0);
            ended += usize::from(events.last().unwrap().1.done);
        }
        events
    };
    let work = async {
        for _ in 0..10 {
            bench.begin(5, FAIL_ONCE).await;
        }
    };
    let (whole, cut, ()) = tokio::join!(whole, cut, work);
    assert_whole(&whole);
    assert_eq!(whole, cut);
}

on_both!(a_snapshot_that_is_cut_after_every_frame_leaves_nothing_out);
async fn a_snapshot_that_is_cut_after_every_frame_leaves_nothing_out(bench: Bench) {
    // More than a page.
    let mut names = Vec::new();
    for _ in 0..100 {
        names.push(bench.begin_asleep().await);
    }
    let (mut cursor, mut latest) = (Vec::new(), HashMap::new());
    loop {
        let (next, frame) = subscribe(&bench, &cursor).await.next().await;
        let Frame::Snapshot(operation) = frame else { break };
        cursor = next;
        assert_eq!(latest.insert(operation.name.clone(), operation), None, "given twice");
        if latest.len() == 30 {
            // One that was given, and three that were not, of which one ends.
            for name in [&names[20], &names[50], &names[99]] {
                bench.awake(name).await;
            }
            bench.cancel(&names[60]).await;
        }
    }
    assert_eq!(latest.len(), 97, "what changes meanwhile is told by the feed");
    let mut feed = subscribe(&bench, &cursor).await;
    // Before it says that this is over.
    while let Frame::Event(event) = feed.next().await.1 {
        let operation = event.operation.unwrap();
        latest.insert(operation.name.clone(), operation);
    }
    for name in &names {
        assert_eq!(latest[name], bench.get(name).await);
    }
}

on_both!(everybody_is_told_the_same_in_the_same_order);
async fn everybody_is_told_the_same_in_the_same_order(bench: Bench) {
    let begin = now(&bench).await;
    let all = (0..4).map(async |_| subscribe(&bench, &begin).await.events(100).await);
    let all = futures_util::future::join_all(all);
    let work = futures_util::future::join_all((0..100).map(async |_| bench.begin(2, SUCCEED).await));
    let (all, _) = tokio::join!(all, work);
    assert_eq!(all[0].len(), 500);
    assert_whole(&all[0]);
    assert!(all.iter().all(|events| events == &all[0]));
}

on_both!(a_place_that_cannot_be_gone_on_from_is_answered_with_a_reset);
async fn a_place_that_cannot_be_gone_on_from_is_answered_with_a_reset(bench: Bench) {
    let begin = now(&bench).await;
    let open = bench.begin(0, HANG).await;
    bench.running(&open).await;
    let last = now(&bench).await;
    let ahead = [&last[..16], &99_i64.to_be_bytes()].concat();
    let elsewhere = [&[7; 16], &last[16..]].concat();
    for cursor in [ahead, elsewhere] {
        let mut feed = subscribe(&bench, &cursor).await;
        feed.assert_reset(&open).await;
    }
    // Who is cut off after the reset is given the snapshot, too.
    let reset = subscribe(&bench, &[&[7; 16], &last[16..]].concat()).await.next().await.0;
    assert!(matches!(subscribe(&bench, &reset).await.next().await.1, Frame::Snapshot(_)));

    bench.tamper("UPDATE feed SET told = 1").await;
    let bench = bench.restart().await;
    bench.until("SELECT COUNT(*) FROM feed WHERE told = 1", 0).await;
    bench.running(&open).await;
    subscribe(&bench, &begin).await.assert_reset(&open).await;
    assert_eq!(position(&subscribe(&bench, &last).await.event().await.0), position(&last) + 1, "nothing is missing");

    // What --renew-epoch does.
    bench.tamper("UPDATE store_meta SET epoch = '00000000-0000-4000-8000-000000000000'").await;
    let last = now(&bench).await;
    let bench = bench.restart().await;
    bench.running(&open).await;
    subscribe(&bench, &last).await.assert_reset(&open).await;
}

on_both!(what_is_forgotten_under_a_stream_is_answered_with_a_reset);
async fn what_is_forgotten_under_a_stream_is_answered_with_a_reset(bench: Bench) {
    let open = bench.begin(0, HANG).await;
    bench.running(&open).await;
    let mut feed = subscribe(&bench, b"").await;
    while !matches!(feed.next().await.1, Frame::CaughtUp(_)) {}
    // What is committed is forgotten before anybody has looked.
    let mut tx = bench.store.begin().await.unwrap();
    sqlx::query("UPDATE feed_owner SET next = next + 3, floor = next + 4").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    bench.cancel(&open).await;
    assert!(matches!(feed.next().await.1, Frame::Reset(_)));
    let mut told = feed.next().await.1;
    while !matches!(told, Frame::CaughtUp(_)) {
        // It may end while the snapshot is read, and is told of then.
        assert!(matches!(told, Frame::Snapshot(_) | Frame::Event(_)), "{told:?}");
        told = feed.next().await.1;
    }
}

on_both!(who_wants_some_is_told_of_no_others_and_goes_on_all_the_same);
async fn who_wants_some_is_told_of_no_others_and_goes_on_all_the_same(bench: Bench) {
    let begin = now(&bench).await;
    let wants = |cursor: &[u8]| SubscribeRequest {
        kinds: vec!["Echo".to_owned()],
        terminal_only: true,
        heartbeat: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        ..everything(cursor)
    };
    let mut feed = ask(&bench, wants(&begin)).await.unwrap();
    let echo = bench.begin_a::<Echo>(prost_types::Duration::default()).await;
    let (_, end) = feed.event().await;
    assert!(end.name == echo && end.done);

    // A page of others.
    bench.wait(&bench.begin(100, SUCCEED).await).await;
    let last = now(&bench).await;
    let heartbeat = tokio::time::timeout(Duration::from_secs(8), feed.next()).await.unwrap();
    assert!(matches!(heartbeat.1, Frame::Heartbeat(_)), "{heartbeat:?}");
    assert_eq!(heartbeat.0, last, "it has gone on past what was not asked for");

    // And from where it was, past the page, to where it is.
    let mut feed = ask(&bench, wants(&begin)).await.unwrap();
    assert!(matches!(feed.next().await.1, Frame::Event(_)));
    let (cursor, caught_up) = feed.next().await;
    assert!(matches!(caught_up, Frame::CaughtUp(_)), "{caught_up:?}");
    assert_eq!(cursor, last);
}

on_both!(who_asks_for_nothing_that_there_is_is_told_so);
async fn who_asks_for_nothing_that_there_is_is_told_so(bench: Bench) {
    let parent = |parent: &str| SubscribeRequest { parent: parent.to_owned(), ..everything(b"") };
    let answers = [
        (parent("services/nobody"), (Code::NotFound, "SERVICE_NOT_FOUND")),
        (parent("work"), (Code::InvalidArgument, "INVALID_FIELDS")),
        (everything(b"nonsense"), (Code::InvalidArgument, "INVALID_FIELDS")),
    ];
    for (request, (code, reason)) in answers {
        assert_eq!(refused(ask(&bench, request).await.map(|_| ())), (code, reason.to_owned()));
    }
}

/// Only Postgres has more than one process at a database.
#[tokio::test]
#[ignore = "needs Postgres: .ci/full"]
async fn what_another_process_commits_is_told_within_the_poll() {
    let Some(bench) = Bench::postgres().await else { return };
    let other = bench.beside().await;
    let mut feed = subscribe(&bench, &now(&bench).await).await;
    for _ in 0..3 {
        let start = Instant::now();
        // Nobody works on it, so nothing is committed here by which this process would be woken.
        let begun = other.begin_asleep().await;
        let told = tokio::time::timeout(Duration::from_secs(5), feed.event()).await.unwrap();
        assert_eq!(told.1.name, begun);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}

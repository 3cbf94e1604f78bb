//! Callers find their own writes in the copy of another service, by a token.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mesh::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::desk::ask;
use crate::fixture::{Databases, Follower, Source, within_limit};

const HEADER: &str = "mesh-consistency";
/// A deadline that ends a wait early.
const SOON: (&str, &str) = ("grpc-timeout", "1500m");

/// Makes a thing, and returns the token.
async fn made(things: &Channel, name: &str) -> String {
    made_by(things, "/things.v1.Things/Make", name).await
}

/// On a busy machine an answer goes without its token.
async fn made_by(channel: &Channel, method: &str, name: &str) -> String {
    for _ in 0..20 {
        if let Some(token) = ask(channel, method, name, &[(HEADER, "want")]).await.unwrap() {
            return token;
        }
    }
    panic!("no answer has a token")
}

async fn has(shelf: &Channel, name: &str, headers: &[(&'static str, &str)]) -> Result<(), Status> {
    ask(shelf, "/shelf.v1.Shelf/Has", name, headers).await.map(|_| ())
}

fn reason(status: &Status) -> (Code, String) {
    (status.code(), status.get_details_error_info().unwrap().reason)
}

fn not_caught_up() -> (Code, String) {
    (Code::Unavailable, "NOT_CAUGHT_UP".to_owned())
}

/// Makes things and asks for each at once.
async fn finds_each(source: &Source, follower: &Follower) {
    let (things, shelf) = (source.mesh.channel("things"), follower.mesh.channel("shelf"));
    for number in 0..50 {
        let name = format!("thing {number}");
        let token = made(&things, &name).await;
        has(&shelf, &name, &[(HEADER, &token)]).await.unwrap();
    }
}

on_both!(own_write_is_in_the_copy_with_its_token);
async fn own_write_is_in_the_copy_with_its_token(databases: Databases) {
    let source = Source::start(&databases).await;
    let follower = Follower::start(&databases, source.address()).await;
    finds_each(&source, &follower).await;
}

on_both!(own_write_is_in_the_copy_in_one_process_with_its_source);
async fn own_write_is_in_the_copy_in_one_process_with_its_source(databases: Databases) {
    let (source, follower) = Follower::start_with_source(&databases).await;
    finds_each(&source, &follower).await;
}

// Shows that the tests above can fail: a follower is held back.
on_both!(own_write_that_the_copy_does_not_have_is_waited_for);
async fn own_write_that_the_copy_does_not_have_is_waited_for(databases: Databases) {
    let (source, follower) = Follower::start_with_source(&databases).await;
    follower.equals(&source).await;
    let (things, shelf) = (source.mesh.channel("things"), follower.mesh.channel("shelf"));
    follower.control.stops.store(true, Ordering::SeqCst);
    let token = made(&things, "one").await;
    let old = has(&shelf, "one", &[]).await.unwrap_err();
    assert_eq!(reason(&old), (Code::NotFound, "NOT_ON_THE_SHELF".to_owned()), "without the token");

    let start = Instant::now();
    let refused = has(&shelf, "one", &[(HEADER, &token), SOON]).await.unwrap_err();
    assert_eq!(reason(&refused), not_caught_up(), "{refused}");
    assert!((Duration::from_millis(250)..Duration::from_secs(2)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());

    let waiting = tokio::spawn(async move { has(&shelf, "one", &[(HEADER, &token)]).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    follower.control.stops.store(false, Ordering::SeqCst);
    waiting.await.unwrap().unwrap();
}

// Each service asks the other one for its caller.
on_both!(own_write_is_found_through_another_service);
async fn own_write_is_found_through_another_service(databases: Databases) {
    let (source, follower) = Follower::start_with_source(&databases).await;
    let (things, shelf) = (source.mesh.channel("things"), follower.mesh.channel("shelf"));
    for number in 0..50 {
        let name = format!("thing {number}");
        let token = made_by(&shelf, "/shelf.v1.Shelf/Make", &name).await;
        ask(&things, "/things.v1.Things/Has", &name, &[(HEADER, &token)]).await.unwrap();
    }
    follower.control.stops.store(true, Ordering::SeqCst);
    let token = made(&things, "one").await;
    let refused = ask(&things, "/things.v1.Things/Has", "one", &[(HEADER, &token), SOON]).await.unwrap_err();
    assert_eq!(reason(&refused), not_caught_up(), "{refused}");
    follower.control.stops.store(false, Ordering::SeqCst);
}

on_both!(token_is_only_for_a_committed_write_whose_caller_wants_it);
async fn token_is_only_for_a_committed_write_whose_caller_wants_it(databases: Databases) {
    let (source, follower) = Follower::start_with_source(&databases).await;
    let things = source.mesh.channel("things");
    let token = async |method: &str, headers: &[(&'static str, &str)]| {
        ask(&things, &format!("/things.v1.Things/{method}"), "one", headers).await.unwrap()
    };
    let first = made(&things, "one").await;
    assert_eq!(token("Make", &[]).await, None);
    assert_eq!(token("Make", &[(HEADER, &first)]).await, None);
    assert_eq!(token("Drop", &[(HEADER, "want")]).await, None, "it was rolled back");
    assert_eq!(token("Has", &[(HEADER, &format!("want, {first}"))]).await, None, "a read");
    // Three positions later, in the same epoch.
    let last = token("Make", &[(HEADER, "want")]).await.unwrap();
    let place = |token: &str| {
        let (epoch, position) = token.strip_prefix("things=").unwrap().split_once('.').unwrap();
        (epoch.to_owned(), position.parse::<i64>().unwrap())
    };
    let (epoch, position) = place(&first);
    assert_eq!(place(&last), (epoch, position + 3));

    let shelf = follower.mesh.channel("shelf");
    has(&shelf, "one", &[(HEADER, &last)]).await.unwrap();
    for (sent, expected) in [
        ("things=7", Err((Code::InvalidArgument, "MALFORMED_CONSISTENCY".to_owned()))),
        ("others=4bf92f35-77b3-4da6-a3ce-929d0e0e4736.7", Ok(())),
        ("", Ok(())),
    ] {
        let got = has(&shelf, "one", &[(HEADER, sent)]).await;
        assert_eq!(got.map_err(|status| reason(&status)), expected, "{sent}");
    }
}

on_both!(own_write_of_another_epoch_waits_for_the_rebuild);
async fn own_write_of_another_epoch_waits_for_the_rebuild(databases: Databases) {
    let source = Source::start(&databases).await;
    let follower = Follower::start(&databases, source.address()).await;
    let lost = made(&source.mesh.channel("things"), "one").await;
    has(&follower.mesh.channel("shelf"), "one", &[(HEADER, &lost)]).await.unwrap();

    let stopped = follower.stop().await;
    source.execute("UPDATE store_meta SET epoch = '4bf92f35-77b3-4da6-a3ce-929d0e0e4736'").await;
    let source = source.restart(&databases).await;
    let follower = stopped.start_held_beside(source.address()).await;
    while !follower.control.stopped.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (things, shelf) = (source.mesh.channel("things"), follower.mesh.channel("shelf"));
    let token = made(&things, "two").await;
    let refused = has(&shelf, "two", &[(HEADER, &token), SOON]).await.unwrap_err();
    assert_eq!(reason(&refused), not_caught_up(), "the copy is rebuilt");
    follower.control.stops.store(false, Ordering::SeqCst);
    has(&shelf, "two", &[(HEADER, &token)]).await.unwrap();
    let refused = has(&shelf, "one", &[(HEADER, &lost), SOON]).await.unwrap_err();
    assert_eq!(reason(&refused), not_caught_up(), "its history is gone");
}

#[tokio::test]
#[ignore = "needs Postgres: .ci/full"]
async fn own_write_is_found_at_a_replica_that_does_not_apply() {
    let Some(databases) = Databases::postgres().await else { return };
    within_limit(async move {
        let source = Source::start(&databases).await;
        let first = Follower::start(&databases, source.address()).await;
        first.equals(&source).await;
        let second = first.replica().await;
        let start = Instant::now();
        finds_each(&source, &second).await;
        assert!(start.elapsed() < Duration::from_secs(20), "it asks for the lease once a second");
        assert_eq!(second.count("SELECT fence FROM mesh_followers").await, 1, "the first one has the lease");
    })
    .await;
}

//! What operators see and repair.

use std::sync::atomic::Ordering;
use std::time::Duration;

use harness::Proxy;
use mesh::testing::bounds;
use mesh_proto::FILE_DESCRIPTOR_SET;
use mesh_proto::mesh::events::v1::follower::State;
use mesh_proto::mesh::events::v1::followers_service_client::FollowersServiceClient;
use mesh_proto::mesh::events::v1::{
    Follower as Shown, ListFollowersRequest, ListParkedEventsRequest, ParkedEvent, RebuildCopyRequest,
    RetryParkedEventsRequest, SkipParkedEventsRequest,
};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::fixture::{Databases, Follower, Source};
use crate::poison::failing;

async fn client(follower: &Follower) -> FollowersServiceClient<Channel> {
    FollowersServiceClient::connect(follower.mesh.url()).await.unwrap()
}

/// The only follower of a mesh.
async fn shown(follower: &Follower) -> Shown {
    let listed = client(follower).await.list_followers(ListFollowersRequest {}).await.unwrap().into_inner();
    let [shown] = <[Shown; 1]>::try_from(listed.followers).unwrap();
    assert_eq!((&*shown.service, &*shown.source), ("shelf", "things"));
    shown
}

/// Waits until the follower is as expected.
pub(crate) async fn until(follower: &Follower, expected: impl Fn(&Shown) -> bool) -> Shown {
    for _ in 0..3000 {
        let shown = shown(follower).await;
        if expected(&shown) {
            return shown;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", shown(follower).await)
}

fn retry(key: &str) -> RetryParkedEventsRequest {
    RetryParkedEventsRequest { service: "shelf".to_owned(), source: "things".to_owned(), key: key.to_owned() }
}

fn skip(key: &str) -> SkipParkedEventsRequest {
    SkipParkedEventsRequest { service: "shelf".to_owned(), source: "things".to_owned(), key: key.to_owned() }
}

fn list(key: &str, page_size: i32, page_token: String) -> ListParkedEventsRequest {
    let (service, source) = ("shelf".to_owned(), "things".to_owned());
    ListParkedEventsRequest { service, source, key: key.to_owned(), page_size, page_token }
}

pub(crate) async fn rebuild(follower: &Follower) -> i64 {
    let request = RebuildCopyRequest { service: "shelf".to_owned(), source: "things".to_owned() };
    client(follower).await.rebuild_copy(request).await.unwrap().into_inner().generation
}

/// All parked events, page by page.
async fn parked(follower: &Follower, key: &str) -> Vec<ParkedEvent> {
    let (mut events, mut token) = (Vec::new(), String::new());
    loop {
        let page = client(follower).await.list_parked_events(list(key, 2, token)).await.unwrap().into_inner();
        events.extend(page.events);
        token = page.next_page_token;
        if token.is_empty() {
            return events;
        }
    }
}

fn reason(status: &Status) -> (Code, String) {
    (status.code(), status.get_error_details().error_info().unwrap().reason.clone())
}

on_both!(follower_is_shown_while_it_builds_follows_and_misses_its_source);
async fn follower_is_shown_while_it_builds_follows_and_misses_its_source(databases: Databases) {
    let source = Source::start(&databases).await;
    source.make("one").await;
    let proxy = Proxy::to(source.address());
    proxy.refuse();
    let follower = Follower::start(&databases, proxy.address).await;
    let building = until(&follower, |shown| !shown.error.is_empty()).await;
    assert_eq!((building.state(), building.heard_time, building.position), (State::Building, None, 0));
    proxy.heal();
    follower.equals(&source).await;
    source.make("two").await;
    let following = until(&follower, |shown| shown.position == 2).await;
    assert_eq!((following.state(), following.head, following.lag), (State::Following, 2, 0));
    assert!(following.heard_time.is_some() && following.error.is_empty(), "{following:?}");
    proxy.refuse();
    until(&follower, |shown| !shown.error.is_empty()).await;
}

on_both!(copy_that_is_shown_as_complete_is_served);
async fn copy_that_is_shown_as_complete_is_served(databases: Databases) {
    let proxy = Proxy::to(Source::start(&databases).await.address());
    proxy.refuse();
    let follower = Follower::start(&databases, proxy.address).await;
    until(&follower, |shown| !shown.error.is_empty()).await;
    follower.copied.complete().unwrap_err();
    // As after the commit that ends a snapshot, before the process that applied it goes on.
    follower.execute("UPDATE mesh_followers SET whole = generation").await;
    assert_eq!(shown(&follower).await.state(), State::Following);
    follower.copied.complete().unwrap();
}

on_both!(parked_events_are_listed_retried_in_order_and_skipped);
async fn parked_events_are_listed_retried_in_order_and_skipped(databases: Databases) {
    let (source, follower) = failing(&databases).await;
    for name in ["poison a", "poison b", "poison a", "fine", "poison a", "panic c"] {
        source.make(name).await;
    }
    let shown = until(&follower, |shown| shown.position == 6).await;
    assert_eq!((shown.parked_keys, shown.state()), (3, State::Following));

    let events = parked(&follower, "").await;
    let places: Vec<_> = events.iter().filter_map(|parked| parked.event.as_ref()).map(|event| event.position).collect();
    assert_eq!(places, [6, 1, 3, 5, 2]);
    let errors: Vec<_> = events.iter().map(|parked| parked.error.contains("on purpose")).collect();
    assert_eq!(errors, [true, true, false, false, true]);
    assert_eq!(parked(&follower, "poison a").await.len(), 3);

    let mut client = client(&follower).await;
    let still = client.retry_parked_events(retry("poison a")).await.unwrap().into_inner();
    assert_eq!((still.applied, still.parked), (0, 3));
    assert!(still.error.contains("on purpose"), "{still:?}");

    follower.control.fails.store(false, Ordering::SeqCst);
    let done = client.retry_parked_events(retry("poison a")).await.unwrap().into_inner();
    assert_eq!((done.applied, done.parked, &*done.error), (3, 0, ""));
    // Its key is free for the holder, too.
    source.make("poison a").await;
    follower.until("SELECT COALESCE(MAX(revision), 0) FROM shelved WHERE name = 'poison a'", 4).await;
    assert_eq!(follower.count("SELECT count(*) FROM effects WHERE name = 'poison a'").await, 4);

    assert_eq!(client.skip_parked_events(skip("poison b")).await.unwrap().into_inner().skipped, 1);
    source.make("poison b").await;
    follower.until("SELECT COALESCE(MAX(revision), 0) FROM shelved WHERE name = 'poison b'", 2).await;
    assert_eq!(until(&follower, |shown| shown.position == 8).await.parked_keys, 1);

    for refused in [
        client.skip_parked_events(skip("fine")).await.map(drop),
        client.retry_parked_events(retry("fine")).await.map(drop),
    ] {
        assert_eq!(reason(&refused.unwrap_err()), (Code::NotFound, "KEY_NOT_PARKED".to_owned()));
    }
    let elsewhere = SkipParkedEventsRequest { source: "nothing".to_owned(), ..skip("fine") };
    let refused = client.skip_parked_events(elsewhere).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::NotFound, "FOLLOWER_NOT_FOUND".to_owned()));
}

on_both!(copy_is_rebuilt_on_request_and_forgets_what_was_parked);
async fn copy_is_rebuilt_on_request_and_forgets_what_was_parked(databases: Databases) {
    let (source, follower) = failing(&databases).await;
    source.make("poison").await;
    source.make("one").await;
    follower.until("SELECT count(*) FROM mesh_parked_events", 1).await;
    // A row that the source does not have.
    follower.until("SELECT count(*) FROM shelved", 1).await;
    follower.execute("INSERT INTO shelved (name, revision, generation) VALUES ('alien', 1, 1)").await;
    follower.control.fails.store(false, Ordering::SeqCst);
    assert_eq!(rebuild(&follower).await, 2);
    follower.copied.complete().unwrap();
    follower.equals(&source).await;
    let shown = until(&follower, |shown| shown.state() == State::Following).await;
    assert_eq!((shown.generation, shown.parked_keys), (2, 0));
    source.make("two").await;
    follower.equals(&source).await;
}

on_both!(bounds_of_followers_are_those_of_the_service);
async fn bounds_of_followers_are_those_of_the_service(databases: Databases) {
    let (_source, follower) = failing(&databases).await;
    let client = client(&follower).await;
    let call = async |request| client.clone().list_parked_events(request).await;
    bounds(FILE_DESCRIPTOR_SET, &list("one", 1, String::new()), &["page_token"], call).await;
    let call = async |request| client.clone().retry_parked_events(request).await;
    bounds(FILE_DESCRIPTOR_SET, &retry("one"), &[], call).await;
    let call = async |request| client.clone().skip_parked_events(request).await;
    bounds(FILE_DESCRIPTOR_SET, &skip("one"), &[], call).await;
    let request = RebuildCopyRequest { service: "shelf".to_owned(), source: "things".to_owned() };
    bounds(FILE_DESCRIPTOR_SET, &request, &[], async |request| client.clone().rebuild_copy(request).await).await;
}

on_both!(follower_that_has_stopped_goes_on_after_a_rebuild_and_says_so);
async fn follower_that_has_stopped_goes_on_after_a_rebuild_and_says_so(databases: Databases) {
    let (source, follower) = failing(&databases).await;
    for number in 0..102 {
        source.make(&format!("poison {number}")).await;
    }
    let stopped = |shown: &Shown| !shown.error.is_empty() && shown.parked_keys > 100;
    until(&follower, stopped).await;
    follower.control.fails.store(false, Ordering::SeqCst);
    rebuild(&follower).await;
    follower.equals(&source).await;
    until(&follower, |shown| shown.error.is_empty() && shown.parked_keys == 0).await;
}

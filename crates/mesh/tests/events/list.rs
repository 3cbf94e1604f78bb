//! The sources of a process, and the events of one first cause.

use mesh::context::{Cause, Context, Trace};
use mesh::testing::bounds;
use mesh_proto::FILE_DESCRIPTOR_SET;
use mesh_proto::mesh::events::v1::subscribe_response::Frame;
use mesh_proto::mesh::events::v1::{Event, ListEventsRequest, ListSourcesRequest, Source};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::fixture::{Fixture, make};

async fn source(fixture: &Fixture) -> Source {
    let sources = fixture.client.clone().list_sources(ListSourcesRequest {}).await.unwrap().into_inner().sources;
    assert_eq!(sources.len(), 1);
    sources.into_iter().next().unwrap()
}

/// The events of a first cause, from all pages, and the number of pages.
async fn caused(fixture: &Fixture, trace: Trace, page_size: i32) -> (Vec<Event>, usize) {
    let correlation_id = Cause::first(trace).correlation.to_string();
    let mut request =
        ListEventsRequest { source: "things".to_owned(), correlation_id, page_size, ..Default::default() };
    let (mut events, mut pages) = (Vec::new(), 0);
    loop {
        let page = fixture.client.clone().list_events(request.clone()).await.unwrap().into_inner();
        (request.page_token, pages) = (page.next_page_token, pages + 1);
        events.extend(page.events);
        if request.page_token.is_empty() {
            return (events, pages);
        }
    }
}

on_both!(sources_have_the_bounds_of_their_logs);
async fn sources_have_the_bounds_of_their_logs(fixture: Fixture) {
    let empty = source(&fixture).await;
    assert_eq!((empty.name.as_str(), empty.head, empty.floor), ("things", 0, 1));
    assert_eq!((empty.head_time, empty.floor_time), (None, None));
    assert_eq!(empty.types, ["things.v1.Made", "things.v1.Removed"]);
    fixture.make("one").await;
    let one = source(&fixture).await;
    fixture.make("two").await;
    let two = source(&fixture).await;
    for (source, expected) in [(&empty, "one"), (&one, "two")] {
        let mut reader = fixture.follow(&source.cursor, &[]).await.unwrap();
        assert!(matches!(reader.next().await, Frame::Event(event) if event.key == expected), "no reset, no snapshot");
    }
    assert_eq!((two.head, two.floor), (2, 1));
    assert!(two.floor_time.unwrap().seconds > 0 && two.head_time.unwrap().seconds >= two.floor_time.unwrap().seconds);
}

on_both!(events_of_a_cause_are_listed_in_pages);
async fn events_of_a_cause_are_listed_in_pages(fixture: Fixture) {
    let [mine, other] = [Context::default(), Context::default()];
    for name in ["one", "two", "three"] {
        mine.clone().scope(fixture.make(name)).await;
        other.clone().scope(make(&fixture.store, "other")).await.unwrap();
    }
    let (events, pages) = caused(&fixture, mine.trace, 2).await;
    assert_eq!(events.iter().map(|event| &*event.key).collect::<Vec<_>>(), ["one", "two", "three"]);
    assert!(events.iter().all(|event| event.data.is_some() && !event.id.is_empty()) && pages == 2);
    assert_eq!(caused(&fixture, Trace::begin(), 0).await, (vec![], 1));
}

on_both!(events_of_a_cause_are_found_in_a_long_log);
async fn events_of_a_cause_are_found_in_a_long_log(fixture: Fixture) {
    let call = Context::default();
    call.clone().scope(fixture.make("first")).await;
    fixture
        .execute(
            "INSERT INTO events (position, id, key, type, told, trace, correlation, causation, hops, payload)
            WITH RECURSIVE more(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM more WHERE n < 25000)
            SELECT n, '', '', 'things.v1.Made', 1, '', '', '', 0, '' FROM more;
            UPDATE events_head SET head = 25000 WHERE id = 1;",
        )
        .await;
    call.clone().scope(fixture.make("last")).await;
    let (events, pages) = caused(&fixture, call.trace, 0).await;
    assert_eq!(events.iter().map(|event| &*event.key).collect::<Vec<_>>(), ["first", "last"]);
    assert_eq!(pages, 3, "a page reads a part of the log");
}

on_both!(bounds_of_list_events_are_those_of_the_service);
async fn bounds_of_list_events_are_those_of_the_service(fixture: Fixture) {
    let (source, correlation_id) = ("things".to_owned(), uuid::Uuid::new_v4().to_string());
    let request = ListEventsRequest { source, correlation_id, ..Default::default() };
    let client = fixture.client.clone();
    let call = async |request| client.clone().list_events(request).await;
    bounds(FILE_DESCRIPTOR_SET, &request, &["page_token"], call).await;

    let nothing = ListEventsRequest { source: "nothing".to_owned(), ..request };
    let unknown = client.clone().list_events(nothing).await.unwrap_err();
    let reason = unknown.get_error_details().error_info().unwrap().reason.clone();
    assert_eq!((unknown.code(), reason.as_str()), (Code::NotFound, "SERVICE_NOT_FOUND"));
}

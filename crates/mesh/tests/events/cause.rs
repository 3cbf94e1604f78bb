//! What a call starts has its cause: the events of its work share its correlation.

use mesh::context::{Cause, Context, Trace};
use mesh::events::Publish as _;
use mesh::operations::{Start, Work as _};
use mesh_proto::google::longrunning::ListOperationsRequest;
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::mesh::events::v1::Event;
use mesh_proto::mesh::events::v1::subscribe_response::Frame;
use mesh_proto::mesh::operations::v1::OperationMetadata;
use uuid::Uuid;

use crate::fixture::{Fixture, Made, Make, Reader};

/// Follows the events of `fixture` from here on.
async fn caught_up(fixture: &Fixture) -> Reader {
    let mut reader = fixture.follow(&[], &[]).await.unwrap();
    reader.catch_up().await;
    reader
}

async fn event(reader: &mut Reader) -> Event {
    loop {
        if let Frame::Event(event) = reader.next().await {
            return event;
        }
    }
}

/// Starts work that makes a thing, in a transaction that publishes `name` itself.
async fn start(fixture: &Fixture, name: &str, revision: i64) {
    let mut tx = fixture.store.begin().await.unwrap();
    tx.publish(&Made { name: name.to_owned(), revision: 1 }).unwrap();
    let request = Made { name: format!("{name} by work"), revision };
    fixture.operations.start_in(&mut tx, &Start::<Make>::new(Uuid::new_v4(), &request)).await.unwrap();
    tx.commit().await.unwrap();
}

async fn events_of_work_have_the_correlation_of_the_call(fixture: Fixture) {
    let mut reader = caught_up(&fixture).await;
    let call = Context::default();
    call.clone().scope(start(&fixture, "one", 1)).await;
    let (by_call, by_work) = (event(&mut reader).await, event(&mut reader).await);
    assert_eq!([&*by_call.key, &*by_work.key], ["one", "one by work"]);
    assert_eq!(by_call.correlation_id, Cause::first(call.trace).correlation.to_string());
    assert_eq!(by_work.correlation_id, by_call.correlation_id);
    assert_eq!([&*by_call.causation_id, &*by_work.causation_id], ["", ""]);
    let trace_of = |event: &Event| Trace::parse(&event.traceparent).unwrap().trace_id;
    assert_eq!(trace_of(&by_call), call.trace.trace_id);
    assert_ne!(trace_of(&by_work), call.trace.trace_id, "the work outlives the call, and has a trace of its own");
}
on_both!(events_of_work_have_the_correlation_of_the_call);

async fn events_of_work_and_its_clean_up_have_the_event_that_caused_them(fixture: Fixture) {
    let mut reader = caught_up(&fixture).await;
    fixture.make("cause").await;
    let cause = event(&mut reader).await;
    // The work fails, and is cleaned up after.
    Context::of_event(&cause).scope(start(&fixture, "two", -1)).await;
    for key in ["two", "two by work", "two by work"] {
        let event = event(&mut reader).await;
        assert_eq!((&*event.key, &event.correlation_id), (key, &cause.correlation_id));
        assert_eq!((&event.causation_id, event.hops), (&cause.id, 1));
    }
}
on_both!(events_of_work_and_its_clean_up_have_the_event_that_caused_them);

async fn operation_is_listed_by_the_correlation_of_the_event_that_caused_it(fixture: Fixture) {
    let mut reader = caught_up(&fixture).await;
    fixture.make("cause").await;
    let cause = event(&mut reader).await;
    start(&fixture, "another", 1).await;
    Context::of_event(&cause).scope(start(&fixture, "two", 1)).await;
    let filter = format!("correlation_id={} AND kind={}", cause.correlation_id, Make::KIND);
    let request = ListOperationsRequest { name: "services/things".to_owned(), filter, ..Default::default() };
    let mut client = OperationsClient::new(fixture.mesh.channel("things"));
    let found = client.list_operations(request).await.unwrap().into_inner().operations;
    let [operation] = &found[..] else { panic!("one operation: {found:?}") };
    let metadata = operation.metadata.as_ref().unwrap().to_msg::<OperationMetadata>().unwrap();
    assert_eq!((metadata.correlation_id, metadata.causation_id), (cause.correlation_id, cause.id));
}
on_both!(operation_is_listed_by_the_correlation_of_the_event_that_caused_it);

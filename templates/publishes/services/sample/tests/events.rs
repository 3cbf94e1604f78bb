//! Follows what `sample` publishes, as any client of EventsService does.

use contracts::mesh::events::v1::SubscribeRequest;
use contracts::mesh::events::v1::events_service_client::EventsServiceClient;
use contracts::mesh::events::v1::subscribe_response::Frame;

use contracts::sample::v1::sample_service_client::SampleServiceClient;
use contracts::sample::v1::{CreateItemRequest, Event, ItemAdded};
use mesh::events::Events as _;
use mesh::testing::Mesh;
use tonic::Streaming;

type Frames = Streaming<contracts::mesh::events::v1::SubscribeResponse>;

async fn subscribe(mesh: &Mesh) -> Frames {
    let request = SubscribeRequest { source: "sample".to_owned(), ..SubscribeRequest::default() };
    EventsServiceClient::new(mesh.channel("sample")).subscribe(request).await.expect("a stream").into_inner()
}

/// The next event of a stream, or row of its snapshot; `None` when it has caught up.
async fn next(frames: &mut Frames) -> Option<Event> {
    let frame = frames.message().await.expect("a stream").expect("a message").frame.expect("a frame");
    match frame {
        Frame::Event(event) | Frame::Snapshot(event) => Some(Event::decode(event.data.expect("data")).expect("an event")),
        _ => None,
    }
}

/// Creates an item, with a repeat, and returns the event that it expects.
async fn create(mesh: &Mesh, name: &str) -> Event {
    let mut client = SampleServiceClient::new(mesh.channel("sample"));
    let request = CreateItemRequest { request_id: uuid::Uuid::new_v4().to_string(), name: name.to_owned() };
    client.create_item(request.clone()).await.expect("an item");
    let item = client.create_item(request).await.expect("an item").into_inner().item;
    ItemAdded { item }.into()
}

#[tokio::test]
async fn create_item_publishes_one_event() {
    let mesh = Mesh::start(sample::service()).await;
    let mut frames = subscribe(&mesh).await;
    assert_eq!(next(&mut frames).await, None);
    for name in ["first", "second"] {
        let expected = create(&mesh, name).await;
        assert_eq!(next(&mut frames).await, Some(expected));
    }
}

#[tokio::test]
async fn new_reader_gets_the_items() {
    let mesh = Mesh::start(sample::service()).await;
    let expected = [Some(create(&mesh, "first").await), Some(create(&mesh, "second").await), None];
    let mut frames = subscribe(&mesh).await;
    for event in expected {
        assert_eq!(next(&mut frames).await, event);
    }
}

//! Starts long work on a real server and follows it with mesh's client.

use contracts::google::longrunning::{Operation, operation};
use contracts::mesh::operations::v1::OperationMetadata;

use contracts::sample::v1::sample_service_client::SampleServiceClient;
use contracts::sample::v1::{GetItemRequest, ImportItemsRequest};
use contracts::sample::v1::{ImportItemsProgress, ImportItemsResponse};
use mesh::client::watch_until_done;
use mesh::testing::{Mesh, bounds};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt as _;

async fn connect(mesh: &Mesh) -> Channel {
    Endpoint::new(mesh.url()).expect("a URL").connect().await.expect("a server")
}

fn request(names: impl IntoIterator<Item = String>) -> ImportItemsRequest {
    ImportItemsRequest { request_id: uuid::Uuid::new_v4().to_string(), names: names.into_iter().collect() }
}

/// The number of items that an import has added.
fn done(import: &Operation) -> i32 {
    let metadata = import.metadata.as_ref().expect("operation metadata");
    let metadata: OperationMetadata = metadata.to_msg().expect("OperationMetadata");
    // The first batch sets the progress.
    metadata.progress.map_or(0, |progress| progress.to_msg::<ImportItemsProgress>().expect("ImportItemsProgress").done)
}

#[tokio::test]
async fn import_items_is_followed_to_its_end() {
    let mesh = Mesh::start(sample::service()).await;
    let channel = connect(&mesh).await;
    let mut client = SampleServiceClient::new(channel.clone());

    let request = request((0..25).map(|number| format!("item {number}")));
    let started = client.import_items(request.clone()).await.unwrap().into_inner();
    let mut progress = Vec::new();
    let ended = watch_until_done(channel, &started.name, |import| progress.push(done(import))).await.unwrap();
    assert!(progress.is_sorted() && progress.last() == Some(&25), "{progress:?}");

    let Some(operation::Result::Response(response)) = ended.result else { panic!("the import failed: {ended:?}") };
    let response: ImportItemsResponse = response.to_msg().unwrap();
    assert_eq!(response.item_ids.len(), 25);
    for (item_id, name) in response.item_ids.into_iter().zip(&request.names) {
        let item = client.get_item(GetItemRequest { item_id }).await.unwrap().into_inner().item.unwrap();
        assert_eq!(item.name, *name);
    }
    // In capitals, the id is the same.
    let request = ImportItemsRequest { request_id: request.request_id.to_uppercase(), ..request };
    let repeated = client.import_items(request).await.unwrap().into_inner();
    assert_eq!((repeated.name, repeated.done), (started.name, true));
}

#[tokio::test]
async fn bounds_of_import_items_are_those_of_the_service() {
    let mesh = Mesh::start(sample::service()).await;
    let client = SampleServiceClient::new(connect(&mesh).await);
    let import = request(["first".to_owned()]);
    let call = async |request| client.clone().import_items(request).await;
    bounds(contracts::FILE_DESCRIPTOR_SET, &import, &[], call).await;
}

#[tokio::test]
async fn import_items_refuses_bad_names() {
    let mesh = Mesh::start(sample::service()).await;
    let mut client = SampleServiceClient::new(connect(&mesh).await);

    for names in [vec![], vec!["x".to_owned(); 1001], vec!["x".to_owned(), " ".to_owned()], vec!["\0".to_owned()]] {
        let bad = client.import_items(request(names)).await.unwrap_err();
        assert_eq!(bad.code(), Code::InvalidArgument);
        let fields = bad.get_error_details().bad_request().unwrap().field_violations.clone();
        assert_eq!(fields.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), ["names"]);
    }
}

//! Calls `sample` with its typed client, over the network and in memory.

use contracts::sample::v1::sample_service_client::SampleServiceClient;
use contracts::sample::v1::{CreateItemRequest, GetItemRequest};
use mesh::testing::{Mesh, bounds};
use tonic::Code;
use tonic_types::StatusExt as _;

#[tokio::test]
async fn create_item_repeated_stores_one_item() {
    let mesh = Mesh::start(sample::service()).await;
    let mut far = SampleServiceClient::connect(mesh.url()).await.unwrap();
    let mut near = SampleServiceClient::new(mesh.channel("sample"));

    let request = CreateItemRequest { request_id: uuid::Uuid::new_v4().to_string(), name: "first".to_owned() };
    let created = far.create_item(request.clone()).await.unwrap().into_inner();
    let repeated = near.create_item(request.clone()).await.unwrap().into_inner();
    assert_eq!(repeated, created);
    let capitals = CreateItemRequest { request_id: request.request_id.to_uppercase(), ..request };
    assert_eq!(near.create_item(capitals).await.unwrap().into_inner(), created, "the same request");

    let item = created.item.unwrap();
    let request = GetItemRequest { item_id: item.item_id.clone() };
    let read = near.get_item(request).await.unwrap().into_inner();
    assert_eq!(read.item, Some(item));
}

#[tokio::test]
async fn bounds_of_the_contract_are_those_of_the_service() {
    let mesh = Mesh::start(sample::service()).await;
    let client = SampleServiceClient::new(mesh.channel("sample"));
    let set = contracts::FILE_DESCRIPTOR_SET;
    let [request_id, item_id] = [(); 2].map(|()| uuid::Uuid::new_v4().to_string());

    let create = CreateItemRequest { request_id, name: "first".to_owned() };
    bounds(set, &create, &[], async |request| client.clone().create_item(request).await).await;
    let get = GetItemRequest { item_id };
    bounds(set, &get, &[], async |request| client.clone().get_item(request).await).await;
}

#[tokio::test]
async fn errors_carry_their_reason_and_every_bad_field() {
    let mesh = Mesh::start(sample::service()).await;
    let mut client = SampleServiceClient::connect(mesh.url()).await.unwrap();

    let absent = GetItemRequest { item_id: uuid::Uuid::new_v4().to_string() };
    let absent = client.get_item(absent).await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);
    assert_eq!(absent.get_error_details().error_info().unwrap().reason, "ITEM_NOT_FOUND");

    let bad = client.create_item(CreateItemRequest::default()).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    let fields = bad.get_error_details().bad_request().unwrap().field_violations.clone();
    let fields: Vec<_> = fields.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["request_id", "name"]);

    for name in [" ", "two\nlines", "a NUL\0", "a bell\u{7}"] {
        let request = CreateItemRequest { request_id: uuid::Uuid::new_v4().to_string(), name: name.to_owned() };
        let bad = client.create_item(request).await.unwrap_err();
        assert_eq!(bad.code(), Code::InvalidArgument, "{name:?}");
    }
}

//! Calls the catalog with its typed client, over the network and in memory.

use contracts::catalog::v1::catalog_service_client::CatalogServiceClient;
use contracts::catalog::v1::{
    BatchGetTitlesRequest, CreateTitleRequest, DeleteTitleRequest, Event, GetTitleRequest, ListTitlesRequest, Title,
    TitleAdded, TitleChanged, TitleRemoved, UpdateTitleRequest,
};
use contracts::mesh::events::v1::SubscribeRequest;
use contracts::mesh::events::v1::events_service_client::EventsServiceClient;
use contracts::mesh::events::v1::subscribe_response::Frame;
use mesh::events::Events as _;
use mesh::testing::{Mesh, bounds};
use tonic::Code;
use tonic_types::StatusExt as _;

fn metropolis() -> CreateTitleRequest {
    CreateTitleRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        name: "Metropolis".to_owned(),
        synopsis: String::new(),
        year: 1927,
        price_cents: 399,
    }
}

#[tokio::test]
async fn titles_are_the_same_over_the_network_and_in_memory() {
    let mesh = Mesh::start(catalog::service()).await;
    let mut far = CatalogServiceClient::connect(mesh.url()).await.unwrap();
    let mut near = CatalogServiceClient::new(mesh.channel("catalog"));

    let created = far.create_title(metropolis()).await.unwrap().into_inner().title.unwrap();
    let request = GetTitleRequest { title_id: created.title_id.clone() };
    let read = near.get_title(request.clone()).await.unwrap().into_inner().title.unwrap();
    assert_eq!(read, created);

    near.delete_title(DeleteTitleRequest { title_id: created.title_id }).await.unwrap();
    let gone = far.get_title(request).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    assert_eq!(gone.get_error_details().error_info().unwrap().reason, "TITLE_NOT_FOUND");
}

#[tokio::test]
async fn create_title_repeated_creates_one_title() {
    let mesh = Mesh::start(catalog::service()).await;
    let mut far = CatalogServiceClient::connect(mesh.url()).await.unwrap();
    let mut near = CatalogServiceClient::new(mesh.channel("catalog"));

    let request = metropolis();
    let first = far.create_title(request.clone()).await.unwrap().into_inner();
    let second = near.create_title(request.clone()).await.unwrap().into_inner();
    assert_eq!(first, second);

    let other = CreateTitleRequest { year: 1928, ..request };
    let reused = near.create_title(other).await.unwrap_err();
    assert_eq!(reused.get_error_details().error_info().unwrap().reason, "REQUEST_ID_REUSED");
    let listed = far.list_titles(ListTitlesRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.titles.len(), 1);
}

#[tokio::test]
async fn create_title_dropped_is_absent_or_complete() {
    let mesh = Mesh::start(catalog::service()).await;
    let mut near = CatalogServiceClient::new(mesh.channel("catalog"));
    for polls in 0..40 {
        let request = metropolis();
        let mut dropped = near.clone();
        let mut call = Box::pin(dropped.create_title(request.clone()));
        // Each round drops the call a little later: before, during and after the commit.
        for _ in 0..polls {
            if tokio::time::timeout(std::time::Duration::from_micros(50), &mut call).await.is_ok() {
                break;
            }
        }
        drop(call);
        // The repeat returns the first answer or creates the title; either way one title exists.
        near.create_title(request).await.unwrap();
    }
    let request = ListTitlesRequest { page_size: 200, ..Default::default() };
    assert_eq!(near.list_titles(request).await.unwrap().into_inner().titles.len(), 40);
}

#[tokio::test]
async fn batch_get_titles_returns_what_exists_in_the_order_of_the_request() {
    let mesh = Mesh::start(catalog::service()).await;
    let mut client = CatalogServiceClient::new(mesh.channel("catalog"));
    let mut titles = Vec::new();
    for _ in 0..100 {
        titles.push(client.create_title(metropolis()).await.unwrap().into_inner().title.unwrap());
    }
    let mut batch = async |title_ids| {
        let request = BatchGetTitlesRequest { title_ids };
        client.batch_get_titles(request).await.unwrap().into_inner().titles
    };

    let absent = uuid::Uuid::new_v4().to_string();
    let [first, second, third] = [0, 1, 2].map(|number| titles[number].title_id.clone());
    let ids = vec![second.clone(), absent.clone(), third, first, second.to_uppercase()];
    assert_eq!(batch(ids).await, [1, 2, 0].map(|number| titles[number].clone()));
    assert_eq!(batch(vec![absent]).await, []);
    let all = titles.iter().map(|title| title.title_id.clone()).collect();
    assert_eq!(batch(all).await, titles, "100 ids are allowed");
}

#[tokio::test]
async fn batch_get_titles_names_every_bad_id() {
    let mesh = Mesh::start(catalog::service()).await;
    let mut client = CatalogServiceClient::connect(mesh.url()).await.unwrap();
    let mut refused = async |title_ids| {
        let request = BatchGetTitlesRequest { title_ids };
        let refused = client.batch_get_titles(request).await.unwrap_err();
        assert_eq!(refused.get_error_details().error_info().unwrap().reason, "INVALID_FIELDS");
        let violations = refused.get_error_details().bad_request().unwrap().field_violations.clone();
        violations.into_iter().map(|violation| violation.field).collect::<Vec<_>>()
    };
    let id = || uuid::Uuid::new_v4().to_string();
    assert_eq!(refused(vec!["x".to_owned(), id(), String::new()]).await, ["title_ids[0]", "title_ids[2]"]);
    assert_eq!(refused(Vec::new()).await, ["title_ids"]);
    assert_eq!(refused((0..101).map(|_| id()).collect()).await, ["title_ids"]);
    let mut long: Vec<_> = (0..101).map(|_| id()).collect();
    long[7] = "x".to_owned();
    assert_eq!(refused(long).await, ["title_ids", "title_ids[7]"]);
}

#[tokio::test]
async fn bounds_of_the_contract_are_those_of_the_service() {
    let mesh = Mesh::start(catalog::service()).await;
    let client = CatalogServiceClient::new(mesh.channel("catalog"));
    let set = contracts::FILE_DESCRIPTOR_SET;
    let title_id = uuid::Uuid::new_v4().to_string();

    let create = metropolis();
    bounds(set, &create, &[], async |request| client.clone().create_title(request).await).await;
    let get = GetTitleRequest { title_id: title_id.clone() };
    bounds(set, &get, &[], async |request| client.clone().get_title(request).await).await;
    let batch = BatchGetTitlesRequest { title_ids: vec![title_id.clone()] };
    bounds(set, &batch, &[], async |request| client.clone().batch_get_titles(request).await).await;
    let list = ListTitlesRequest::default();
    bounds(set, &list, &["page_token", "order_by"], async |request| client.clone().list_titles(request).await).await;
    // Without a mask, the update checks the fields that are not zero.
    let title = Title { title_id: title_id.clone(), revision: 1, name: "M".into(), year: 1931, ..Title::default() };
    let update = UpdateTitleRequest { title: Some(title), update_mask: None };
    bounds(set, &update, &[], async |request| client.clone().update_title(request).await).await;
    let delete = DeleteTitleRequest { title_id };
    bounds(set, &delete, &[], async |request| client.clone().delete_title(request).await).await;
}

#[test]
fn default_deadlines_come_from_the_contract() {
    let methods = mesh::contract::Methods::of(&[contracts::FILE_DESCRIPTOR_SET]);
    let deadline = |name| methods.find(&format!("/catalog.v1.CatalogService/{name}")).default_deadline;
    assert_eq!(deadline("GetTitle"), Some(std::time::Duration::from_secs(2)));
    assert_eq!(deadline("CreateTitle"), None);
}

#[tokio::test]
async fn each_write_publishes_one_event_with_the_whole_title() {
    let mesh = Mesh::start(catalog::service()).await;
    let mut near = CatalogServiceClient::new(mesh.channel("catalog"));
    let follow = SubscribeRequest { source: "catalog".to_owned(), ..SubscribeRequest::default() };
    let events = EventsServiceClient::new(mesh.channel("catalog")).subscribe(follow).await.unwrap();

    let request = metropolis();
    let created = near.create_title(request.clone()).await.unwrap().into_inner().title;
    near.create_title(request).await.unwrap();
    let title = Some(Title { price_cents: 500, ..created.clone().unwrap() });
    let update = UpdateTitleRequest { title, update_mask: None };
    let changed = near.update_title(update.clone()).await.unwrap().into_inner().title;
    near.update_title(update).await.unwrap_err();
    let delete = DeleteTitleRequest { title_id: created.clone().unwrap().title_id };
    near.delete_title(delete.clone()).await.unwrap();
    near.delete_title(delete).await.unwrap_err();

    let expected = [
        Event::from(TitleAdded { title: created }),
        TitleChanged { title: changed.clone() }.into(),
        TitleRemoved { title: changed }.into(),
    ];
    let mut events = events.into_inner();
    for expected in expected {
        let event = loop {
            if let Some(Frame::Event(event)) = events.message().await.unwrap().unwrap().frame {
                break event;
            }
        };
        assert_eq!(event.key, expected.key());
        assert_eq!(Event::decode(event.data.unwrap()).unwrap(), expected);
    }
}

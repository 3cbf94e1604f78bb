//! Calls the catalog with its typed client, over the network and in memory.

use contracts::catalog::v1::catalog_service_client::CatalogServiceClient;
use contracts::catalog::v1::{CreateTitleRequest, DeleteTitleRequest, GetTitleRequest, ListTitlesRequest};
use mesh::testing::Mesh;
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

#[test]
fn default_deadlines_come_from_the_contract() {
    let methods = mesh::contract::Methods::of(&[contracts::FILE_DESCRIPTOR_SET]);
    let deadline = |name| methods.find(&format!("/catalog.v1.CatalogService/{name}")).default_deadline;
    assert_eq!(deadline("GetTitle"), Some(std::time::Duration::from_secs(2)));
    assert_eq!(deadline("CreateTitle"), None);
}

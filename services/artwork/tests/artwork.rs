//! Calls artwork with its typed client, over the network and in memory.

use contracts::artwork::v1::artwork_service_client::ArtworkServiceClient;
use contracts::artwork::v1::{GetArtworkRequest, GetRenditionRequest, RenderArtworkRequest};
use mesh::testing::Mesh;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().expect("an ErrorInfo").reason.clone()
}

fn bad_fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = &details.bad_request().expect("a BadRequest").field_violations;
    violations.iter().map(|violation| violation.field.clone()).collect()
}

#[tokio::test]
async fn render_artwork_refuses_bad_fields() {
    let mesh = Mesh::start(artwork::service()).await;
    let mut client = ArtworkServiceClient::connect(mesh.url()).await.unwrap();

    let refused = client.render_artwork(RenderArtworkRequest::default()).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::InvalidArgument, "INVALID_FIELDS"));
    assert_eq!(bad_fields(&refused), ["title_id", "request_id", "image"]);
}

#[tokio::test]
async fn get_artwork_of_a_title_without_artwork_is_not_found() {
    let mesh = Mesh::start(artwork::service()).await;
    let mut far = ArtworkServiceClient::connect(mesh.url()).await.unwrap();
    let mut near = ArtworkServiceClient::new(mesh.channel("artwork"));

    let request = GetArtworkRequest { title_id: uuid::Uuid::new_v4().to_string() };
    for absent in [far.get_artwork(request.clone()).await, near.get_artwork(request).await] {
        let absent = absent.unwrap_err();
        assert_eq!((absent.code(), &*reason(&absent)), (Code::NotFound, "ARTWORK_NOT_FOUND"));
    }
}

#[tokio::test]
async fn get_rendition_accepts_the_sizes_of_the_contract_only() {
    let mesh = Mesh::start(artwork::service()).await;
    let mut client = ArtworkServiceClient::connect(mesh.url()).await.unwrap();
    let title_id = uuid::Uuid::new_v4().to_string();

    for size in 1..=4 {
        let request = GetRenditionRequest { title_id: title_id.clone(), size };
        let absent = client.get_rendition(request).await.unwrap_err();
        assert_eq!(reason(&absent), "ARTWORK_NOT_FOUND", "{size}");
    }
    for size in [-1, 0, 5] {
        let request = GetRenditionRequest { title_id: title_id.clone(), size };
        let refused = client.get_rendition(request).await.unwrap_err();
        assert_eq!(bad_fields(&refused), ["size"], "{size}");
    }
}

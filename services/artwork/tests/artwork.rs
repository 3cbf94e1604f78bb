//! Calls artwork with its typed client, over the network and in memory.

use contracts::artwork::v1::artwork_service_client::ArtworkServiceClient;
use contracts::artwork::v1::{
    BatchGetArtworksRequest, DownloadRenditionRequest, GetArtworkRequest, GetRenditionRequest, RenderArtworkRequest,
    Size,
};
use contracts::catalog::v1::catalog_service_server::{CatalogService, CatalogServiceServer};
use contracts::catalog::v1::*;
use contracts::google::longrunning::operation;
use contracts::mesh::operations::v1::subscribe_response::Frame;
use image::{DynamicImage, ImageFormat};
use mesh::Service;
use mesh::client::{GrpcChannel, Subscription, watch_until_done};
use mesh::testing::{Mesh, bounds};
use tonic::{Code, Request, Response, Status, async_trait};
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
        let request = DownloadRenditionRequest { title_id: title_id.clone(), size };
        let absent = client.download_rendition(request).await.unwrap_err();
        assert_eq!((absent.code(), &*reason(&absent)), (Code::NotFound, "ARTWORK_NOT_FOUND"), "{size}");
    }
    for size in [-1, 0, 5] {
        let request = GetRenditionRequest { title_id: title_id.clone(), size };
        let refused = client.get_rendition(request).await.unwrap_err();
        assert_eq!(bad_fields(&refused), ["size"], "{size}");
        let request = DownloadRenditionRequest { title_id: "x".to_owned(), size };
        let refused = client.download_rendition(request).await.unwrap_err();
        assert_eq!(bad_fields(&refused), ["title_id", "size"], "{size}");
    }
}

#[tokio::test]
async fn batch_get_artworks_names_every_bad_id() {
    let mesh = Mesh::start(artwork::service()).await;
    let mut client = ArtworkServiceClient::connect(mesh.url()).await.unwrap();
    let mut refused = async |title_ids| {
        let request = BatchGetArtworksRequest { title_ids };
        bad_fields(&client.batch_get_artworks(request).await.unwrap_err())
    };
    let id = || uuid::Uuid::new_v4().to_string();
    assert_eq!(refused(vec!["x".to_owned(), id(), String::new()]).await, ["title_ids[0]", "title_ids[2]"]);
    assert_eq!(refused(Vec::new()).await, ["title_ids"]);
    assert_eq!(refused((0..101).map(|_| id()).collect()).await, ["title_ids"]);
}

/// In the place of the catalog: every title exists.
struct FakeCatalog;

#[async_trait]
impl CatalogService for FakeCatalog {
    async fn get_title(&self, _: Request<GetTitleRequest>) -> Result<Response<GetTitleResponse>, Status> {
        Ok(Response::new(GetTitleResponse::default()))
    }

    async fn create_title(&self, _: Request<CreateTitleRequest>) -> Result<Response<CreateTitleResponse>, Status> {
        Err(Status::unimplemented("artwork does not call it"))
    }

    async fn batch_get_titles(
        &self,
        _: Request<BatchGetTitlesRequest>,
    ) -> Result<Response<BatchGetTitlesResponse>, Status> {
        Err(Status::unimplemented("artwork does not call it"))
    }

    async fn list_titles(&self, _: Request<ListTitlesRequest>) -> Result<Response<ListTitlesResponse>, Status> {
        Err(Status::unimplemented("artwork does not call it"))
    }

    async fn update_title(&self, _: Request<UpdateTitleRequest>) -> Result<Response<UpdateTitleResponse>, Status> {
        Err(Status::unimplemented("artwork does not call it"))
    }

    async fn delete_title(&self, _: Request<DeleteTitleRequest>) -> Result<Response<DeleteTitleResponse>, Status> {
        Err(Status::unimplemented("artwork does not call it"))
    }
}

fn fake_catalog() -> Service {
    Service::new("catalog", contracts::FILE_DESCRIPTOR_SET).serves(|_| CatalogServiceServer::new(FakeCatalog))
}

fn png() -> Vec<u8> {
    let mut png = std::io::Cursor::new(Vec::new());
    DynamicImage::new_rgb8(64, 36).write_to(&mut png, ImageFormat::Png).expect("a picture");
    png.into_inner()
}

/// Starts a rendering, and follows it to its end: by itself, and among all operations of its caller.
async fn follow_a_rendering<C: GrpcChannel + Clone>(channel: C) {
    let mut all = Subscription::new(channel.clone(), "services/artwork", Vec::new()).terminal_only();
    while !matches!(all.next().await.expect("a frame").frame, Some(Frame::CaughtUp(_))) {}

    let request = RenderArtworkRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        title_id: uuid::Uuid::new_v4().to_string(),
        image: png(),
    };
    let started = ArtworkServiceClient::new(channel.clone()).render_artwork(request).await.expect("it starts");
    let name = started.into_inner().name;
    let mut updates = 0;
    let done = watch_until_done(channel, &name, |_| updates += 1).await.expect("it ends");
    assert!(matches!(done.result, Some(operation::Result::Response(_))) && updates > 0, "{done:?}");

    let ended = loop {
        if let Some(Frame::Event(event)) = all.next().await.expect("a frame").frame {
            break event.operation.expect("an operation");
        }
    };
    assert_eq!(ended, done);
}

#[tokio::test]
async fn render_artwork_is_followed_in_memory_and_over_the_network() {
    let mesh = Mesh::start([artwork::service(), fake_catalog()]).await;
    follow_a_rendering(mesh.channel("artwork")).await;
    follow_a_rendering(tonic::transport::Endpoint::new(mesh.url()).unwrap().connect().await.unwrap()).await;
}

/// Renders the pictures of a new title, and returns its id.
async fn rendered(mesh: &Mesh) -> String {
    let title_id = uuid::Uuid::new_v4().to_string();
    let request =
        RenderArtworkRequest { request_id: uuid::Uuid::new_v4().to_string(), title_id: title_id.clone(), image: png() };
    let channel = mesh.channel("artwork");
    let started = ArtworkServiceClient::new(channel.clone()).render_artwork(request).await.expect("it starts");
    watch_until_done(channel, &started.into_inner().name, |_| ()).await.expect("it ends");
    title_id
}

#[tokio::test]
async fn batch_get_artworks_returns_what_exists_in_the_order_of_the_request() {
    let mesh = Mesh::start([artwork::service(), fake_catalog()]).await;
    let mut client = ArtworkServiceClient::new(mesh.channel("artwork"));
    let (first, second, third) = (rendered(&mesh).await, rendered(&mesh).await, rendered(&mesh).await);
    let (absent, capitals) = (uuid::Uuid::new_v4().to_string(), second.to_uppercase());
    let mut single = async |title_id: &str| {
        let request = GetArtworkRequest { title_id: title_id.to_owned() };
        client.get_artwork(request).await.unwrap().into_inner().artwork.unwrap()
    };
    let expected = [single(&second).await, single(&third).await, single(&first).await];
    assert_eq!(expected[0].renditions.len(), 4);
    assert!(expected[0].renditions.is_sorted_by_key(|rendition| rendition.size), "the smallest first");

    let request = BatchGetArtworksRequest { title_ids: vec![second, absent, third, first, capitals] };
    let artworks = client.batch_get_artworks(request).await.unwrap().into_inner().artworks;
    assert_eq!(artworks, expected);
}

#[tokio::test]
async fn download_rendition_returns_the_file_of_get_rendition() {
    let mesh = Mesh::start([artwork::service(), fake_catalog()]).await;
    let mut client = ArtworkServiceClient::new(mesh.channel("artwork"));
    let title_id = rendered(&mesh).await;
    for size in [Size::Thumbnail, Size::Tv] {
        let request = GetRenditionRequest { title_id: title_id.clone(), size: size.into() };
        let got = client.get_rendition(request).await.unwrap().into_inner();
        let request = DownloadRenditionRequest { title_id: title_id.clone(), size: size.into() };
        let file = client.download_rendition(request).await.unwrap().into_inner();
        assert_eq!((file.content_type.as_str(), file.data), ("image/jpeg", got.content));
        assert_eq!(got.rendition.unwrap().content_type, file.content_type);
    }
}

#[tokio::test]
async fn bounds_of_the_contract_are_those_of_the_service() {
    let mesh = Mesh::start([artwork::service(), fake_catalog()]).await;
    let client = ArtworkServiceClient::new(mesh.channel("artwork"));
    let set = contracts::FILE_DESCRIPTOR_SET;
    let [request_id, title_id] = [(); 2].map(|()| uuid::Uuid::new_v4().to_string());

    let render = RenderArtworkRequest { request_id, title_id: title_id.clone(), image: png() };
    bounds(set, &render, &[], async |request| client.clone().render_artwork(request).await).await;
    let get = GetArtworkRequest { title_id: title_id.clone() };
    bounds(set, &get, &[], async |request| client.clone().get_artwork(request).await).await;
    let batch = BatchGetArtworksRequest { title_ids: vec![title_id.clone()] };
    bounds(set, &batch, &[], async |request| client.clone().batch_get_artworks(request).await).await;
    let get = GetRenditionRequest { title_id: title_id.clone(), size: Size::Tv.into() };
    bounds(set, &get, &[], async |request| client.clone().get_rendition(request).await).await;
    let download = DownloadRenditionRequest { title_id, size: Size::Tv.into() };
    bounds(set, &download, &[], async |request| client.clone().download_rendition(request).await).await;
}

#[tokio::test]
async fn largest_image_is_a_setting() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = ["services.artwork.largest_image=64KiB".to_owned()];
    let mesh = Mesh::start_in(folder, &settings, artwork::service()).await;
    let mut client = ArtworkServiceClient::connect(mesh.url()).await.unwrap();
    let request = RenderArtworkRequest { image: vec![0; 64 * 1024 + 1], ..RenderArtworkRequest::default() };
    let refused = client.render_artwork(request).await.unwrap_err();
    assert!(refused.message().contains("image must have at most 65536 bytes"), "{refused}");
}

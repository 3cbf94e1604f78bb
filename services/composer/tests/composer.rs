//! Calls the composer with its typed client, beside a catalog that is silent or answers.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use contracts::catalog::v1::catalog_service_server::{CatalogService, CatalogServiceServer};
use contracts::catalog::v1::*;
use contracts::composer::v1::GetTitlePageRequest;
use contracts::composer::v1::composer_service_client::ComposerServiceClient;
use mesh::Service;
use mesh::testing::{Mesh, bounds};
use tonic::{Code, Request, Response, Status, async_trait};
use tonic_types::StatusExt as _;

/// In the place of the catalog: it knows one title, and is silent about the nil UUID.
#[derive(Clone, Default)]
struct FakeCatalog {
    /// When the last silent call was dropped.
    dropped: Arc<Mutex<Option<Instant>>>,
}

struct Dropped(Arc<Mutex<Option<Instant>>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        *self.0.lock().expect("no panic") = Some(Instant::now());
    }
}

fn unused<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the composer does not call it"))
}

#[async_trait]
impl CatalogService for FakeCatalog {
    async fn get_title(&self, request: Request<GetTitleRequest>) -> Result<Response<GetTitleResponse>, Status> {
        let title_id = request.into_inner().title_id;
        if uuid::Uuid::parse_str(&title_id).is_ok_and(|id| id.is_nil()) {
            let _dropped = Dropped(Arc::clone(&self.dropped));
            std::future::pending::<()>().await;
        }
        let title = Title { title_id, name: "Metropolis".to_owned(), price_cents: 399, ..Title::default() };
        Ok(Response::new(GetTitleResponse { title: Some(title) }))
    }

    async fn create_title(&self, _: Request<CreateTitleRequest>) -> Result<Response<CreateTitleResponse>, Status> {
        unused()
    }

    async fn batch_get_titles(
        &self,
        _: Request<BatchGetTitlesRequest>,
    ) -> Result<Response<BatchGetTitlesResponse>, Status> {
        unused()
    }

    async fn list_titles(&self, _: Request<ListTitlesRequest>) -> Result<Response<ListTitlesResponse>, Status> {
        unused()
    }

    async fn update_title(&self, _: Request<UpdateTitleRequest>) -> Result<Response<UpdateTitleResponse>, Status> {
        unused()
    }

    async fn delete_title(&self, _: Request<DeleteTitleRequest>) -> Result<Response<DeleteTitleResponse>, Status> {
        unused()
    }
}

async fn beside(catalog: FakeCatalog) -> Mesh {
    let catalog =
        Service::new("catalog", contracts::FILE_DESCRIPTOR_SET).serves(move |_| CatalogServiceServer::new(catalog));
    Mesh::start([composer::service(), catalog]).await
}

fn request(title_id: uuid::Uuid) -> GetTitlePageRequest {
    GetTitlePageRequest { title_id: title_id.to_string(), viewer_id: "a".to_owned() }
}

#[tokio::test]
async fn page_names_the_services_that_it_lacks() {
    let mesh = beside(FakeCatalog::default()).await;
    let mut client = ComposerServiceClient::new(mesh.channel("composer"));
    let page = client.get_title_page(request(uuid::Uuid::new_v4())).await.unwrap().into_inner();
    assert_eq!((page.name.as_str(), page.price_cents), ("Metropolis", 399));
    assert_eq!((page.pictures.len(), page.rental), (0, None));
    assert_eq!(page.unreachable, ["services/artwork", "services/library"]);
}

#[tokio::test]
async fn page_without_the_catalog_is_unavailable() {
    let mesh = Mesh::start(composer::service()).await;
    let mut client = ComposerServiceClient::new(mesh.channel("composer"));
    let failed = client.get_title_page(request(uuid::Uuid::new_v4())).await.unwrap_err();
    let reason = failed.get_error_details().error_info().unwrap().reason.clone();
    assert_eq!((failed.code(), reason.as_str()), (Code::Unavailable, "NO_ENDPOINTS"));
}

#[tokio::test]
async fn caller_that_leaves_cancels_the_call_of_the_catalog() {
    let catalog = FakeCatalog::default();
    let dropped = Arc::clone(&catalog.dropped);
    let mesh = beside(catalog).await;
    let mut client = ComposerServiceClient::connect(mesh.url()).await.unwrap();
    let asking = client.get_title_page(request(uuid::Uuid::nil()));
    assert!(tokio::time::timeout(Duration::from_millis(300), asking).await.is_err());
    let left = Instant::now();
    while dropped.lock().unwrap().is_none() {
        assert!(left.elapsed() < Duration::from_secs(1), "the default deadline is not what ends it");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn bounds_of_the_contract_are_those_of_the_service() {
    let mesh = beside(FakeCatalog::default()).await;
    let client = ComposerServiceClient::new(mesh.channel("composer"));
    let page = request(uuid::Uuid::new_v4());
    bounds(contracts::FILE_DESCRIPTOR_SET, &page, &[], async |request| client.clone().get_title_page(request).await)
        .await;
}

/// The bounds have no rule for blanks.
#[test]
fn contract_has_the_words_of_the_rule_for_viewers() {
    let contract = include_str!("../../../proto/composer/v1/composer.proto").to_lowercase().replace("\n  // ", " ");
    assert!(contract.contains(&mesh::Text::line(100).to_string().to_lowercase()));
}

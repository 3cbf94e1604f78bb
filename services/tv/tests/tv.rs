//! Calls tv with its typed client, without its peers, or beside fakes of some.

use contracts::catalog::v1::catalog_service_server::{CatalogService, CatalogServiceServer};
use contracts::catalog::v1::*;
use contracts::recommendations::v1::recommendations_service_server::{
    RecommendationsService, RecommendationsServiceServer,
};
use contracts::recommendations::v1::*;
use contracts::tv::v1::tv_service_client::TvServiceClient;
use contracts::tv::v1::{FollowOperationRequest, GetHomeRequest};
use mesh::Service;
use mesh::testing::{Mesh, bounds};
use tonic::{Code, Request, Response, Status, async_trait};
use tonic_types::StatusExt as _;

#[tokio::test]
async fn home_without_the_catalog_is_unavailable() {
    let mesh = Mesh::start(tv::service()).await;
    let mut client = TvServiceClient::new(mesh.channel("tv"));
    let failed = client.get_home(GetHomeRequest::default()).await.unwrap_err();
    let reason = failed.get_error_details().error_info().unwrap().reason.clone();
    assert_eq!((failed.code(), reason.as_str()), (Code::Unavailable, "NO_ENDPOINTS"));
}

#[tokio::test]
async fn bounds_of_the_contract_are_those_of_the_service() {
    let mesh = Mesh::start(tv::service()).await;
    let (set, client) = (contracts::FILE_DESCRIPTOR_SET, TvServiceClient::new(mesh.channel("tv")));
    // A request that is not refused gets to the catalog, which is not there.
    let home = async |request| match client.clone().get_home(request).await {
        Err(status) if status.code() != Code::Unavailable => Err(status),
        _ => Ok(()),
    };
    bounds(set, &GetHomeRequest::default(), &[], home).await;
    let name = format!("services/library/operations/{}", uuid::Uuid::new_v4());
    let operation = FollowOperationRequest { name, cursor: Vec::new() };
    bounds(set, &operation, &["cursor"], async |request| client.clone().follow_operation(request).await).await;
}

/// The bounds have no rule for blanks.
#[test]
fn contract_has_the_words_of_the_rule_for_viewers() {
    let contract = include_str!("../../../proto/tv/v1/tv.proto").to_lowercase().replace("\n  // ", " ");
    assert!(contract.contains(&mesh::Text::line(100).to_string().to_lowercase()));
}

/// In the place of the catalog, which has one title, and of recommendations, which recommends another one.
struct Fakes;

fn title(name: &str, year: i32) -> Title {
    Title { title_id: uuid::Uuid::new_v4().to_string(), name: name.to_owned(), year, ..Title::default() }
}

fn unused<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("tv does not call it"))
}

#[async_trait]
impl CatalogService for Fakes {
    async fn list_titles(&self, _: Request<ListTitlesRequest>) -> Result<Response<ListTitlesResponse>, Status> {
        let titles = vec![title("Metropolis", 1927)];
        Ok(Response::new(ListTitlesResponse { titles, ..Default::default() }))
    }

    async fn get_title(&self, _: Request<GetTitleRequest>) -> Result<Response<GetTitleResponse>, Status> {
        unused()
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

    async fn update_title(&self, _: Request<UpdateTitleRequest>) -> Result<Response<UpdateTitleResponse>, Status> {
        unused()
    }

    async fn delete_title(&self, _: Request<DeleteTitleRequest>) -> Result<Response<DeleteTitleResponse>, Status> {
        unused()
    }
}

#[async_trait]
impl RecommendationsService for Fakes {
    async fn note_watched(&self, _: Request<NoteWatchedRequest>) -> Result<Response<NoteWatchedResponse>, Status> {
        unused()
    }

    async fn list_recommendations(
        &self,
        request: Request<ListRecommendationsRequest>,
    ) -> Result<Response<ListRecommendationsResponse>, Status> {
        let recommended = |name: &str| Recommendation { title: Some(title(name, 1967)), ..Default::default() };
        let recommendations = match request.into_inner().viewer_id.as_str() {
            "new" => Vec::new(),
            viewer => vec![recommended(viewer)],
        };
        Ok(Response::new(ListRecommendationsResponse { recommendations, ..Default::default() }))
    }
}

/// Tv with the row of recommendations, beside fakes.
async fn beside<const N: usize>(services: [Service; N]) -> Mesh {
    let settings = ["services.tv.recommendations=true".to_owned()];
    Mesh::start_in(tempfile::tempdir().expect("a temporary folder"), &settings, services).await
}

fn catalog() -> Service {
    Service::new("catalog", contracts::FILE_DESCRIPTOR_SET).serves(|_| CatalogServiceServer::new(Fakes))
}

fn recommendations() -> Service {
    Service::new("recommendations", contracts::FILE_DESCRIPTOR_SET).serves(|_| RecommendationsServiceServer::new(Fakes))
}

/// The names of the rows, and the services that are missing.
async fn home(mesh: &Mesh, viewer: &str) -> (Vec<String>, Vec<String>) {
    let mut client = TvServiceClient::new(mesh.channel("tv"));
    let request = GetHomeRequest { viewer_id: viewer.to_owned(), ..GetHomeRequest::default() };
    let home = client.get_home(request).await.expect("a home screen").into_inner();
    (home.rows.into_iter().map(|row| row.name).collect(), home.unreachable)
}

#[tokio::test]
async fn recommendations_are_the_first_row_of_a_viewer() {
    let mesh = beside([tv::service(), catalog(), recommendations()]).await;
    let missing = ["services/artwork", "services/library"].map(str::to_owned).to_vec();
    assert_eq!(home(&mesh, "Playtime").await, (vec!["Others watched".to_owned(), "1920s".to_owned()], missing.clone()));
    // There is nothing for a new viewer, and no viewer to ask for.
    assert_eq!(home(&mesh, "new").await, (vec!["1920s".to_owned()], missing.clone()));
    assert_eq!(home(&mesh, "").await, (vec!["1920s".to_owned()], missing[..1].to_vec()));
}

#[tokio::test]
async fn recommendations_that_are_away_are_named_and_leave_the_other_rows() {
    let mesh = beside([tv::service(), catalog()]).await;
    let (rows, unreachable) = home(&mesh, "Playtime").await;
    assert_eq!(rows, ["1920s"]);
    assert_eq!(unreachable, ["services/artwork", "services/library", "services/recommendations"]);
}

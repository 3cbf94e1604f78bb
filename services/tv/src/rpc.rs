//! Implements the contract: calls the owners of the parts, and gives their answers the shape of a television.

use std::pin::Pin;
use std::time::Duration;

use contracts::artwork::v1::BatchGetArtworksRequest;
use contracts::artwork::v1::artwork_service_client::ArtworkServiceClient;
use contracts::catalog::v1::catalog_service_client::CatalogServiceClient;
use contracts::catalog::v1::{ListTitlesRequest, Title};
use contracts::library::v1::ListCurrentRentalsRequest;
use contracts::library::v1::library_service_client::LibraryServiceClient;
use contracts::recommendations::v1::ListRecommendationsRequest;
use contracts::recommendations::v1::recommendations_service_client::RecommendationsServiceClient;
use contracts::tv::v1::tv_service_server::TvService;
use contracts::tv::v1::*;
use futures_util::{Stream, stream};
use mesh::client::OperationWatch;
use mesh::client::operation::service_of;
use mesh::compose::Parts;
use mesh::context::Context;
use mesh::{Channel, Text, Violations, error, peer};
use tonic::{Code, Request, Response, Status, async_trait};

use crate::home::{Shelf, recommended, rows};
use crate::progress::progress;

/// The domain in the `ErrorInfo` of this service's errors.
const DOMAIN: &str = "tv";
/// The rule for viewers, as library has it. The contract repeats its words.
const VIEWER: Text = Text::line(100);
/// The number of titles of a request that names none, and the most of any. The contract repeats them.
const DEFAULT_TITLES: i32 = 50;
const MAX_TITLES: i32 = 100;
/// The number of titles that are recommended.
const RECOMMENDED: i32 = 10;
/// The most titles of a batch, as the contracts of artwork and library have it.
const BATCH: usize = 100;

/// The names of operations that are followed. The contract has them as a pattern.
const NAMES: &str = "must be services/artwork/operations/UUID or services/library/operations/UUID";
/// The wait for the first message of a stream, before which an operation that does not exist is refused.
const FIRST: Duration = Duration::from_secs(2);

type Watch = OperationWatch<Channel>;

pub(crate) struct Tv {
    catalog: CatalogServiceClient<Channel>,
    artwork: Channel,
    library: Channel,
    /// `None` without the row of recommendations.
    recommendations: Option<RecommendationsServiceClient<Channel>>,
}

impl Tv {
    pub(crate) fn new(channel: impl Fn(&'static str) -> Channel, recommends: bool) -> Self {
        let catalog = CatalogServiceClient::new(channel("catalog"));
        let recommendations = recommends.then(|| RecommendationsServiceClient::new(channel("recommendations")));
        Self { catalog, artwork: channel("artwork"), library: channel("library"), recommendations }
    }

    /// The titles that are recommended to the viewer.
    async fn recommended(&self, parts: &Parts, viewer_id: &str) -> Result<Vec<Title>, Status> {
        let Some(mut recommendations) = self.recommendations.clone() else { return Ok(Vec::new()) };
        let request = ListRecommendationsRequest { viewer_id: viewer_id.to_owned(), page_size: RECOMMENDED };
        let answer = parts.optional("recommendations", recommendations.list_recommendations(request)).await?;
        let answer = answer.unwrap_or_default().recommendations.into_iter();
        Ok(answer.filter_map(|recommendation| recommendation.title).collect())
    }

    /// Gets the pictures of titles, and the rentals of the viewer, if there is one.
    async fn shelf(&self, parts: &Parts, titles: Vec<Title>, viewer_id: Option<&str>) -> Result<Shelf, Status> {
        let ids: Vec<_> = titles.iter().map(|title| title.title_id.clone()).collect();
        let rented = if viewer_id.is_some() { ids.clone() } else { Vec::new() };
        let (pictures, rentals) = tokio::try_join!(
            parts.batched("artwork", ids, BATCH, async |title_ids| {
                let mut artwork = ArtworkServiceClient::new(self.artwork.clone());
                artwork.batch_get_artworks(BatchGetArtworksRequest { title_ids }).await
            }),
            parts.batched("library", rented, BATCH, async |title_ids| {
                let mut library = LibraryServiceClient::new(self.library.clone());
                let viewer_id = viewer_id.unwrap_or_default().to_owned();
                library.list_current_rentals(ListCurrentRentalsRequest { viewer_id, title_ids }).await
            }),
        )?;
        let artworks = pictures.into_iter().flat_map(|pictures| pictures.artworks).collect();
        let rentals = rentals.into_iter().flat_map(|rentals| rentals.rentals).collect();
        Ok(Shelf { titles, artworks, rentals })
    }

    /// The service that runs an operation.
    fn worker(&self, operation: &str) -> Option<Channel> {
        match service_of(operation) {
            Some("artwork") => Some(self.artwork.clone()),
            Some("library") => Some(self.library.clone()),
            _ => None,
        }
    }
}

#[async_trait]
impl TvService for Tv {
    async fn get_home(&self, request: Request<GetHomeRequest>) -> Result<Response<GetHomeResponse>, Status> {
        let GetHomeRequest { page_size: asked, viewer_id } = request.into_inner();
        let mut bad = Violations::default();
        bad.check(asked >= 0, "page_size", "must not be negative");
        if !viewer_id.is_empty() {
            bad.text(&viewer_id, "viewer_id", VIEWER);
        }
        bad.finish().map_err(|bad| error::invalid_fields(DOMAIN, bad))?;

        let page_size = if asked == 0 { DEFAULT_TITLES } else { asked.min(MAX_TITLES) };
        let newest = ListTitlesRequest { page_size, order_by: "create_time desc".to_owned(), ..Default::default() };
        let parts = Parts::begin();
        // A user is the viewer, as library has it.
        let has_viewer = !viewer_id.is_empty() || Context::caller().subject().is_some();
        let viewer = has_viewer.then_some(viewer_id.as_str());
        let newest = async {
            let titles = parts.required(self.catalog.clone().list_titles(newest)).await?.titles;
            self.shelf(&parts, titles, viewer).await.map_err(known)
        };
        let others_watched = async {
            let Some(viewer_id) = viewer else { return Ok(Shelf::default()) };
            let titles = self.recommended(&parts, viewer_id).await.map_err(known)?;
            self.shelf(&parts, titles, viewer).await.map_err(known)
        };
        let (newest, others_watched) = tokio::try_join!(newest, others_watched)?;
        let rows = recommended(others_watched).into_iter().chain(rows(newest)).collect();
        Ok(Response::new(GetHomeResponse { rows, unreachable: parts.unreachable() }))
    }

    type FollowOperationStream = Pin<Box<dyn Stream<Item = Result<FollowOperationResponse, Status>> + Send>>;

    async fn follow_operation(
        &self,
        request: Request<FollowOperationRequest>,
    ) -> Result<Response<Self::FollowOperationStream>, Status> {
        let FollowOperationRequest { name, cursor } = request.into_inner();
        let worker = self.worker(&name).ok_or_else(|| {
            let mut bad = Violations::default();
            bad.check(false, "name", NAMES);
            error::invalid_fields(DOMAIN, bad)
        })?;
        let mut watch = OperationWatch::new(worker, name).after(cursor);
        watch.open(FIRST).await.map_err(peer::pass_on)?;
        Ok(Response::new(Box::pin(stream::try_unfold(watch, next))))
    }
}

/// The caller learns that it may not name this viewer. Any other failure is one of tv.
fn known(status: Status) -> Status {
    let by_its_owner = status.code() == Code::PermissionDenied && peer::reason(&status).is_none();
    if by_its_owner { peer::pass_on(status) } else { status }
}

/// The next message: a change, or a heartbeat.
async fn next(mut watch: Watch) -> Result<Option<(FollowOperationResponse, Watch)>, Status> {
    let frame = watch.frame().await.map_err(peer::pass_on)?;
    Ok(frame.map(|frame| {
        let message = match frame.operation {
            Some(operation) => FollowOperationResponse { cursor: frame.cursor, ..progress(&operation) },
            None => FollowOperationResponse { cursor: frame.cursor, heartbeat: true, ..Default::default() },
        };
        (message, watch)
    }))
}

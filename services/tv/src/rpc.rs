//! Implements the contract: calls the owners of the parts, and gives their answers the shape of a television.

use std::pin::Pin;

use contracts::artwork::v1::BatchGetArtworksRequest;
use contracts::artwork::v1::artwork_service_client::ArtworkServiceClient;
use contracts::catalog::v1::ListTitlesRequest;
use contracts::catalog::v1::catalog_service_client::CatalogServiceClient;
use contracts::library::v1::ListCurrentRentalsRequest;
use contracts::library::v1::library_service_client::LibraryServiceClient;
use contracts::tv::v1::tv_service_server::TvService;
use contracts::tv::v1::*;
use futures_util::{Stream, stream};
use mesh::client::OperationWatch;
use mesh::client::operation::service_of;
use mesh::compose::Parts;
use mesh::{Channel, Text, Violations, error, peer};
use tonic::{Request, Response, Status, async_trait};

use crate::home::rows;
use crate::progress::progress;

/// The domain in the `ErrorInfo` of this service's errors.
const DOMAIN: &str = "tv";
/// The rule for viewers. The contract repeats its words, and library checks it, too.
const VIEWER: Text = Text::line(100);
/// The number of titles of a request that names none, and the most of any. The contract repeats them.
const DEFAULT_TITLES: i32 = 50;
const MAX_TITLES: i32 = 100;
/// The most titles of a batch, as the contracts of artwork and library have it.
const BATCH: usize = 100;

pub(crate) struct Tv {
    catalog: CatalogServiceClient<Channel>,
    artwork: Channel,
    library: Channel,
}

impl Tv {
    pub(crate) fn new(channel: impl Fn(&'static str) -> Channel) -> Self {
        let catalog = CatalogServiceClient::new(channel("catalog"));
        Self { catalog, artwork: channel("artwork"), library: channel("library") }
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
        let titles = parts.required(self.catalog.clone().list_titles(newest)).await?.titles;

        let ids: Vec<_> = titles.iter().map(|title| title.title_id.clone()).collect();
        let rented = if viewer_id.is_empty() { Vec::new() } else { ids.clone() };
        let (pictures, rentals) = tokio::try_join!(
            parts.batched("artwork", ids, BATCH, async |title_ids| {
                let mut artwork = ArtworkServiceClient::new(self.artwork.clone());
                artwork.batch_get_artworks(BatchGetArtworksRequest { title_ids }).await
            }),
            parts.batched("library", rented, BATCH, async |title_ids| {
                let mut library = LibraryServiceClient::new(self.library.clone());
                let viewer_id = viewer_id.clone();
                library.list_current_rentals(ListCurrentRentalsRequest { viewer_id, title_ids }).await
            }),
        )?;
        let artworks: Vec<_> = pictures.into_iter().flat_map(|pictures| pictures.artworks).collect();
        let rentals: Vec<_> = rentals.into_iter().flat_map(|rentals| rentals.rentals).collect();
        let rows = rows(titles, &artworks, &rentals);
        Ok(Response::new(GetHomeResponse { rows, unreachable: parts.unreachable() }))
    }

    type FollowOperationStream = Pin<Box<dyn Stream<Item = Result<FollowOperationResponse, Status>> + Send>>;

    async fn follow_operation(
        &self,
        request: Request<FollowOperationRequest>,
    ) -> Result<Response<Self::FollowOperationStream>, Status> {
        let name = request.into_inner().name;
        let mut bad = Violations::default();
        let worker = self.worker(&name);
        bad.check(
            worker.is_some(),
            "name",
            "must be services/artwork/operations/UUID or services/library/operations/UUID",
        );
        bad.finish().map_err(|bad| error::invalid_fields(DOMAIN, bad))?;

        let watch = worker.map(|worker| OperationWatch::new(worker, name));
        Ok(Response::new(Box::pin(stream::try_unfold(watch, async |watch| {
            let Some(mut watch) = watch else { return Ok(None) };
            let operation = watch.next().await.map_err(peer::pass_on)?;
            Ok(operation.map(|operation| (progress(&operation), Some(watch))))
        }))))
    }
}

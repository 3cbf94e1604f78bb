//! Implements the contract: calls the owners of the parts, and gives their answers the shape of a phone.

use std::pin::Pin;
use std::time::Duration;

use contracts::artwork::v1::artwork_service_client::ArtworkServiceClient;
use contracts::artwork::v1::{Artwork, BatchGetArtworksRequest, Size};
use contracts::catalog::v1::catalog_service_client::CatalogServiceClient;
use contracts::catalog::v1::{ListTitlesRequest, Title};
use contracts::mobile::v1::mobile_service_server::MobileService;
use contracts::mobile::v1::*;
use futures_util::{Stream, stream};
use mesh::client::OperationWatch;
use mesh::client::operation::service_of;
use mesh::compose::Parts;
use mesh::{Channel, Violations, error, peer};
use tonic::{Request, Response, Status, async_trait};

use crate::notice::notice;

/// The domain in the `ErrorInfo` of this service's errors.
const DOMAIN: &str = "mobile";
/// The number of titles of a request that names none, and the most of any. The contract repeats them.
const DEFAULT_TITLES: i32 = 10;
const MAX_TITLES: i32 = 50;

/// The names of operations that are followed. The contract has them as a pattern.
const NAMES: &str = "must be services/artwork/operations/UUID or services/library/operations/UUID";
/// The wait for the first message of a stream, before which an operation that does not exist is refused.
const FIRST: Duration = Duration::from_secs(2);

type Watch = OperationWatch<Channel>;

pub(crate) struct Mobile {
    catalog: CatalogServiceClient<Channel>,
    artwork: Channel,
    library: Channel,
}

impl Mobile {
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
impl MobileService for Mobile {
    async fn get_home(&self, request: Request<GetHomeRequest>) -> Result<Response<GetHomeResponse>, Status> {
        let asked = request.into_inner().page_size;
        let mut bad = Violations::default();
        bad.check(asked >= 0, "page_size", "must not be negative");
        bad.finish().map_err(|bad| error::invalid_fields(DOMAIN, bad))?;

        let page_size = if asked == 0 { DEFAULT_TITLES } else { asked.min(MAX_TITLES) };
        let newest = ListTitlesRequest { page_size, order_by: "create_time desc".to_owned(), ..Default::default() };
        let parts = Parts::begin();
        let titles = parts.required(self.catalog.clone().list_titles(newest)).await?.titles;
        let ids = titles.iter().map(|title| title.title_id.clone());
        let pictures = parts
            .batched("artwork", ids, 100, async |title_ids| {
                let mut artwork = ArtworkServiceClient::new(self.artwork.clone());
                artwork.batch_get_artworks(BatchGetArtworksRequest { title_ids }).await
            })
            .await?;
        let artworks: Vec<_> = pictures.into_iter().flat_map(|pictures| pictures.artworks).collect();
        let cards = titles.into_iter().map(|title| card(title, &artworks)).collect();
        Ok(Response::new(GetHomeResponse { cards, unreachable: parts.unreachable() }))
    }

    type AwaitOperationStream = Pin<Box<dyn Stream<Item = Result<AwaitOperationResponse, Status>> + Send>>;

    async fn await_operation(
        &self,
        request: Request<AwaitOperationRequest>,
    ) -> Result<Response<Self::AwaitOperationStream>, Status> {
        let AwaitOperationRequest { name, cursor } = request.into_inner();
        let worker = self.worker(&name).ok_or_else(|| {
            let mut bad = Violations::default();
            bad.check(false, "name", NAMES);
            error::invalid_fields(DOMAIN, bad)
        })?;
        let mut watch = OperationWatch::new(worker, name).terminal_only().after(cursor);
        watch.open(FIRST).await.map_err(peer::pass_on)?;
        Ok(Response::new(Box::pin(stream::try_unfold(watch, next))))
    }
}

/// The next message: the notice of the end, or a heartbeat.
async fn next(mut watch: Watch) -> Result<Option<(AwaitOperationResponse, Watch)>, Status> {
    let frame = watch.frame().await.map_err(peer::pass_on)?;
    Ok(frame.map(|frame| {
        let message = match frame.operation.filter(|operation| operation.done) {
            Some(ended) => notice(&ended, frame.cursor),
            None => AwaitOperationResponse { cursor: frame.cursor, heartbeat: true, ..Default::default() },
        };
        (message, watch)
    }))
}

fn card(title: Title, artworks: &[Artwork]) -> Card {
    let artwork = artworks.iter().find(|artwork| artwork.title_id == title.title_id);
    let mut renditions = artwork.iter().flat_map(|artwork| &artwork.renditions);
    let picture = renditions.find(|rendition| rendition.size() == Size::Mobile);
    Card {
        title_id: title.title_id,
        name: title.name,
        year: title.year,
        price_cents: title.price_cents,
        picture_url: picture.map(|picture| picture.path.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::artwork::v1::Rendition;

    #[test]
    fn card_has_the_picture_for_a_phone_of_its_own_title() {
        let title = |title_id: &str| Title { title_id: title_id.to_owned(), ..Title::default() };
        let rendition =
            |size: Size| Rendition { size: size.into(), path: size.as_str_name().to_owned(), ..Rendition::default() };
        let renditions = vec![rendition(Size::Thumbnail), rendition(Size::Mobile), rendition(Size::Tv)];
        let artworks = [Artwork { title_id: "a".to_owned(), renditions, create_time: None }];
        assert_eq!(card(title("a"), &artworks).picture_url, "SIZE_MOBILE");
        assert_eq!(card(title("b"), &artworks).picture_url, "");
    }
}

//! Implements the contract: calls the owners of the parts, and composes their answers.

use contracts::artwork::v1::artwork_service_client::ArtworkServiceClient;
use contracts::artwork::v1::{GetArtworkRequest, Rendition};
use contracts::catalog::v1::GetTitleRequest;
use contracts::catalog::v1::catalog_service_client::CatalogServiceClient;
use contracts::composer::v1::composer_service_server::ComposerService;
use contracts::composer::v1::{GetTitlePageRequest, GetTitlePageResponse, Picture, Rental};
use contracts::library::v1::library_service_client::LibraryServiceClient;
use contracts::library::v1::{self as library, ListCurrentRentalsRequest, RentalState};
use mesh::compose::Parts;
use mesh::context::Context;
use mesh::{Channel, Text, Violations, error, peer};
use tonic::{Code, Request, Response, Status, async_trait};

/// The domain in the `ErrorInfo` of this service's errors.
const DOMAIN: &str = "composer";
/// The rule for viewers, as library has it. The contract repeats its words.
const VIEWER: Text = Text::line(100);

pub(crate) struct Composer {
    catalog: CatalogServiceClient<Channel>,
    artwork: ArtworkServiceClient<Channel>,
    library: LibraryServiceClient<Channel>,
}

impl Composer {
    pub(crate) fn new(channel: impl Fn(&'static str) -> Channel) -> Self {
        Self {
            catalog: CatalogServiceClient::new(channel("catalog")),
            artwork: ArtworkServiceClient::new(channel("artwork")),
            library: LibraryServiceClient::new(channel("library")),
        }
    }
}

#[async_trait]
impl ComposerService for Composer {
    async fn get_title_page(
        &self,
        request: Request<GetTitlePageRequest>,
    ) -> Result<Response<GetTitlePageResponse>, Status> {
        let GetTitlePageRequest { title_id, viewer_id } = request.into_inner();
        let mut bad = Violations::default();
        bad.uuid(&title_id, "title_id");
        if !viewer_id.is_empty() {
            bad.text(&viewer_id, "viewer_id", VIEWER);
        }
        bad.finish().map_err(|bad| error::invalid_fields(DOMAIN, bad))?;

        let parts = Parts::begin();
        let (mut catalog, mut artwork, mut library) =
            (self.catalog.clone(), self.artwork.clone(), self.library.clone());
        let rental = async {
            // A user is the viewer, as library has it.
            if viewer_id.is_empty() && Context::caller().subject().is_none() {
                return Ok(None);
            }
            let request = ListCurrentRentalsRequest { viewer_id, title_ids: vec![title_id.clone()] };
            parts.optional("library", library.list_current_rentals(request)).await
        };
        let (title, pictures, rental) = tokio::try_join!(
            parts.required(catalog.get_title(GetTitleRequest { title_id: title_id.clone() })),
            parts.optional("artwork", artwork.get_artwork(GetArtworkRequest { title_id: title_id.clone() })),
            rental,
        )
        .map_err(known)?;

        let title = title.title.unwrap_or_default();
        let pictures = pictures.and_then(|pictures| pictures.artwork).unwrap_or_default();
        Ok(Response::new(GetTitlePageResponse {
            title_id: title.title_id,
            name: title.name,
            synopsis: title.synopsis,
            year: title.year,
            price_cents: title.price_cents,
            pictures: pictures.renditions.into_iter().map(picture).collect(),
            rental: rental.and_then(|rental| rental.rentals.into_iter().next()).map(page_rental),
            unreachable: parts.unreachable(),
        }))
    }
}

/// The caller learns that the title does not exist, or that it may not name this viewer. Any other failure is one of
/// the composer.
fn known(status: Status) -> Status {
    match status.code() {
        Code::NotFound => peer::pass_on(status),
        // Not that the composer itself may not call library.
        Code::PermissionDenied if peer::reason(&status).is_none() => peer::pass_on(status),
        _ => status,
    }
}

fn picture(rendition: Rendition) -> Picture {
    Picture { url: rendition.path, width: rendition.width, height: rendition.height }
}

fn page_rental(rental: library::Rental) -> Rental {
    Rental {
        granted: rental.state() == RentalState::Granted,
        expire_time: rental.expire_time,
        operation: rental.operation,
    }
}

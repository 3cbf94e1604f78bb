//! The contract on one side, the domain on the other.

use contracts::artwork::v1::artwork_service_server::ArtworkService;
use contracts::artwork::v1::{self as wire, *};
use contracts::catalog::v1::GetTitleRequest;
use contracts::catalog::v1::catalog_service_client::CatalogServiceClient;
use contracts::google::longrunning::Operation;
use mesh::operations::work::Start;
use mesh::store::{self as kit, Store};
use mesh::{Channel, Operations, Violations, error};
use tonic::{Code, Request, Response, Status, async_trait};
use uuid::Uuid;

use crate::domain::{self, Error, Rendition, Size};
use crate::store;
use crate::work::Render;

/// The domain of this service's reasons.
const DOMAIN: &str = "artwork";

pub(crate) struct Artwork {
    store: Store,
    operations: Operations,
    catalog: CatalogServiceClient<Channel>,
}

impl Artwork {
    pub(crate) fn new(store: Store, operations: Operations, catalog: CatalogServiceClient<Channel>) -> Self {
        Self { store, operations, catalog }
    }

    async fn title_exists(&self, title: Uuid) -> Result<(), Status> {
        let request = GetTitleRequest { title_id: title.to_string() };
        match self.catalog.clone().get_title(request).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::NotFound => Err(Error::UnknownTitle(title).into()),
            // In the peer's own words: it knows what it was, and whether to try again.
            Err(status) => Err(status),
        }
    }
}

#[async_trait]
impl ArtworkService for Artwork {
    async fn render_artwork(&self, request: Request<RenderArtworkRequest>) -> Result<Response<Operation>, Status> {
        let mut request = request.into_inner();
        let mut bad = Violations::default();
        let title = bad.uuid(&request.title_id, "title_id");
        // Some write UUIDs in capitals; it is the same request.
        request.request_id = bad.uuid(&request.request_id, "request_id").to_string();
        request.title_id = title.to_string();
        domain::check(&request.image, &mut bad);
        bad.finish().map_err(Error::Invalid)?;

        let start = Start::<Render>::new(&request.request_id, &request);
        if let Some(operation) = self.operations.started(&start).await? {
            return Ok(Response::new(operation));
        }
        self.title_exists(title).await?;
        Ok(Response::new(self.operations.start(&start).await?))
    }

    async fn get_artwork(&self, request: Request<GetArtworkRequest>) -> Result<Response<GetArtworkResponse>, Status> {
        let mut bad = Violations::default();
        let title = bad.uuid(&request.get_ref().title_id, "title_id");
        bad.finish().map_err(Error::Invalid)?;

        let artwork = artwork(&self.store, title).await?;
        Ok(Response::new(GetArtworkResponse { artwork: Some(artwork) }))
    }

    async fn get_rendition(
        &self,
        request: Request<GetRenditionRequest>,
    ) -> Result<Response<GetRenditionResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        let title = bad.uuid(&request.title_id, "title_id");
        let size = wire::Size::try_from(request.size).ok().and_then(|size| Size::try_from(size).ok());
        bad.check(size.is_some(), "size", "must be SIZE_THUMBNAIL, SIZE_MOBILE, SIZE_TABLET or SIZE_TV");
        bad.finish().map_err(Error::Invalid)?;

        let found = match size {
            Some(size) => store::get(self.store.reader(), title, size).await?,
            None => None,
        };
        let mut rendition = found.ok_or(Error::NotFound(title))?;
        let content = std::mem::take(&mut rendition.content);
        Ok(Response::new(GetRenditionResponse { rendition: Some(rendition.into()), content }))
    }
}

/// What there is of a title, as the contract has it.
pub(crate) async fn artwork(store: &Store, title: Uuid) -> Result<wire::Artwork, Error> {
    let created = store::create_time(store.reader(), title).await?.ok_or(Error::NotFound(title))?;
    let renditions = store::describe(store.reader(), title).await?;
    Ok(wire::Artwork {
        title_id: title.to_string(),
        renditions: renditions.into_iter().map(wire::Rendition::from).collect(),
        create_time: Some(kit::timestamp(created)),
    })
}

impl From<Rendition> for wire::Rendition {
    fn from(rendition: Rendition) -> Self {
        Self {
            size: wire::Size::from(rendition.size).into(),
            content_type: "image/jpeg".to_owned(),
            width: i32::try_from(rendition.width).unwrap_or(i32::MAX),
            height: i32::try_from(rendition.height).unwrap_or(i32::MAX),
        }
    }
}

impl From<Size> for wire::Size {
    fn from(size: Size) -> Self {
        match size {
            Size::Thumbnail => Self::Thumbnail,
            Size::Mobile => Self::Mobile,
            Size::Tablet => Self::Tablet,
            Size::Tv => Self::Tv,
        }
    }
}

impl TryFrom<wire::Size> for Size {
    type Error = ();

    fn try_from(size: wire::Size) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|known| wire::Size::from(*known) == size).ok_or(())
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(violations) => error::invalid_fields(DOMAIN, violations),
            Error::UnknownTitle(_) => error::status(Code::NotFound, DOMAIN, "TITLE_NOT_FOUND", message),
            Error::NotFound(_) => error::status(Code::NotFound, DOMAIN, "ARTWORK_NOT_FOUND", message),
            Error::Undecodable(_) => error::status(Code::InvalidArgument, DOMAIN, "UNDECODABLE_IMAGE", message),
            Error::TooLarge => error::status(Code::InvalidArgument, DOMAIN, "RENDITION_TOO_LARGE", message),
            Error::Interrupted => error::status(Code::Aborted, DOMAIN, "RENDERING_INTERRUPTED", message),
            Error::Store(error) => error.into(),
        }
    }
}

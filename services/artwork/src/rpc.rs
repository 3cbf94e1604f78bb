//! Implements the contract: validates requests, reads the store and starts renderings.

use contracts::artwork::v1::artwork_service_server::ArtworkService;
use contracts::artwork::v1::*;
use contracts::catalog::v1::GetTitleRequest;
use contracts::catalog::v1::catalog_service_client::CatalogServiceClient;
use contracts::google::api::HttpBody;
use contracts::google::longrunning::Operation;
use mesh::operations::Start;
use mesh::store::Store;
use mesh::{Channel, Operations, Violations};
use tonic::{Code, Request, Response, Status, async_trait};
use uuid::Uuid;

use crate::domain::{self, Error, MAX_BATCH, Rendition, Size};
use crate::work::Render;
use crate::{store, wire};

pub(crate) struct Artwork {
    store: Store,
    operations: Operations,
    catalog: CatalogServiceClient<Channel>,
    /// In bytes, encoded.
    largest_image: usize,
}

impl Artwork {
    pub(crate) fn new(
        store: Store,
        operations: Operations,
        catalog: CatalogServiceClient<Channel>,
        largest_image: usize,
    ) -> Self {
        Self { store, operations, catalog, largest_image }
    }

    /// # Errors
    ///
    /// NOT_FOUND if the catalog does not have the title; otherwise the status of the failed call.
    async fn check_title(&self, title: Uuid) -> Result<(), Status> {
        let request = GetTitleRequest { title_id: title.to_string() };
        match self.catalog.clone().get_title(request).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::NotFound => Err(Error::UnknownTitle(title).into()),
            // Unchanged: mesh answers with a reason of its own, which says whether the call may be retried.
            Err(status) => Err(status),
        }
    }

    /// The title of a request, and its picture in the size with this number.
    async fn rendition(&self, title: &str, size: i32) -> Result<(Uuid, Rendition), Error> {
        let mut bad = Violations::default();
        let title = bad.uuid(title, "title_id");
        let size = Size::try_from(size).ok();
        bad.check(size.is_some(), "size", "must be SIZE_THUMBNAIL, SIZE_MOBILE, SIZE_TABLET or SIZE_TV");
        bad.finish().map_err(Error::Invalid)?;

        let found = match size {
            Some(size) => store::get(self.store.reader(), title, size).await?,
            None => None,
        };
        Ok((title, found.ok_or(Error::NotFound(title))?))
    }
}

#[async_trait]
impl ArtworkService for Artwork {
    async fn render_artwork(&self, request: Request<RenderArtworkRequest>) -> Result<Response<Operation>, Status> {
        let mut request = request.into_inner();
        let mut bad = Violations::default();
        let title = bad.uuid(&request.title_id, "title_id");
        let request_id = bad.uuid(&request.request_id, "request_id");
        // A repeat may spell the title in capitals.
        request.title_id = title.to_string();
        domain::check(&request.image, self.largest_image, &mut bad);
        bad.finish().map_err(Error::Invalid)?;

        let start = Start::<Render>::new(request_id, &request);
        if let Some(operation) = self.operations.started(&start).await? {
            return Ok(Response::new(operation));
        }
        self.check_title(title).await?;
        Ok(Response::new(self.operations.start(&start).await?))
    }

    async fn get_artwork(&self, request: Request<GetArtworkRequest>) -> Result<Response<GetArtworkResponse>, Status> {
        let mut bad = Violations::default();
        let title = bad.uuid(&request.get_ref().title_id, "title_id");
        bad.finish().map_err(Error::Invalid)?;

        let artwork = store::artwork(self.store.reader(), title).await?.ok_or(Error::NotFound(title))?;
        Ok(Response::new(GetArtworkResponse { artwork: Some(artwork.into()) }))
    }

    async fn batch_get_artworks(
        &self,
        request: Request<BatchGetArtworksRequest>,
    ) -> Result<Response<BatchGetArtworksResponse>, Status> {
        let mut bad = Violations::default();
        let titles = bad.uuids(&request.get_ref().title_ids, "title_ids", MAX_BATCH);
        bad.finish().map_err(Error::Invalid)?;

        let artworks = store::artworks(self.store.reader(), &titles).await?;
        let artworks = artworks.into_iter().map(Into::into).collect();
        Ok(Response::new(BatchGetArtworksResponse { artworks }))
    }

    async fn get_rendition(
        &self,
        request: Request<GetRenditionRequest>,
    ) -> Result<Response<GetRenditionResponse>, Status> {
        let request = request.get_ref();
        let (title, rendition) = self.rendition(&request.title_id, request.size).await?;
        let described = wire::rendition(title, &rendition);
        Ok(Response::new(GetRenditionResponse { rendition: Some(described), content: rendition.content }))
    }

    async fn download_rendition(
        &self,
        request: Request<DownloadRenditionRequest>,
    ) -> Result<Response<HttpBody>, Status> {
        let request = request.get_ref();
        let (_, rendition) = self.rendition(&request.title_id, request.size).await?;
        Ok(Response::new(HttpBody {
            content_type: wire::CONTENT_TYPE.to_owned(),
            data: rendition.content,
            extensions: Vec::new(),
        }))
    }
}

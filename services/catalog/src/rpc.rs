//! Implements the contract: validates requests, applies the domain's rules, reads and writes the store.

use contracts::catalog::v1::catalog_service_server::CatalogService;
use contracts::catalog::v1::*;
use mesh::Violations;
use mesh::events::Publish as _;
use mesh::page::Page;
use mesh::store::{Once, Store};
use tonic::{Request, Response, Status, async_trait};

use crate::domain::{Details, Error, Field, MAX_BATCH, Order, Title};
use crate::{store, wire};

pub(crate) struct Catalog {
    store: Store,
}

impl Catalog {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }
}

#[async_trait]
impl CatalogService for Catalog {
    async fn create_title(
        &self,
        request: Request<CreateTitleRequest>,
    ) -> Result<Response<CreateTitleResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        let request_id = bad.uuid(&request.request_id, "request_id");
        let details = Details::from(&request);
        details.check(&Field::ALL, "", &mut bad);
        bad.finish().map_err(Error::Invalid)?;

        let once = mesh::store::Request::new("CreateTitle", request_id, &request);
        let mut tx = match self.store.begin_once(&once).await? {
            Once::New(tx) => tx,
            Once::Done(first) => return Ok(Response::new(first)),
        };
        let title = Title::new(details, mesh::store::now());
        store::insert(&mut *tx, &title).await?;
        let title = Some(title.into());
        tx.publish(&TitleAdded { title: title.clone() })?;
        let response = CreateTitleResponse { title };
        tx.answer(&once, &response).await?;
        tx.commit().await?;
        Ok(Response::new(response))
    }

    async fn get_title(&self, request: Request<GetTitleRequest>) -> Result<Response<GetTitleResponse>, Status> {
        let mut bad = Violations::default();
        let id = bad.uuid(&request.get_ref().title_id, "title_id");
        bad.finish().map_err(Error::Invalid)?;

        let title = store::get(self.store.reader(), id).await?.ok_or(Error::NotFound(id))?;
        Ok(Response::new(GetTitleResponse { title: Some(title.into()) }))
    }

    async fn batch_get_titles(
        &self,
        request: Request<BatchGetTitlesRequest>,
    ) -> Result<Response<BatchGetTitlesResponse>, Status> {
        let mut bad = Violations::default();
        let ids = bad.uuids(&request.get_ref().title_ids, "title_ids", MAX_BATCH);
        bad.finish().map_err(Error::Invalid)?;

        let titles = store::get_all(self.store.reader(), &ids).await?;
        let titles = titles.into_iter().map(Into::into).collect();
        Ok(Response::new(BatchGetTitlesResponse { titles }))
    }

    async fn list_titles(&self, request: Request<ListTitlesRequest>) -> Result<Response<ListTitlesResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        let page = Page::read(request.page_size, &request.page_token, &mut bad);
        let order = Order::parse(&request.order_by);
        bad.check(order.is_some(), "order_by", "must be empty, `create_time` or `create_time desc`");
        bad.finish().map_err(Error::Invalid)?;

        let titles = store::list(self.store.reader(), order.unwrap_or_default(), page.after, page.fetch()).await?;
        let (titles, next_page_token) = page.cut(titles, |title| title.id);
        let titles = titles.into_iter().map(Into::into).collect();
        Ok(Response::new(ListTitlesResponse { titles, next_page_token }))
    }

    async fn update_title(
        &self,
        request: Request<UpdateTitleRequest>,
    ) -> Result<Response<UpdateTitleResponse>, Status> {
        let request = request.into_inner();
        let given = request.title.unwrap_or_default();
        let mut bad = Violations::default();
        let id = bad.uuid(&given.title_id, "title.title_id");
        let seen = given.revision;
        bad.check(seen > 0, "title.revision", "must be the revision of the title as it was read");
        let details = Details::from(given);
        let fields = wire::fields(request.update_mask, &details, &mut bad);
        details.check(&fields, "title.", &mut bad);
        bad.finish().map_err(Error::Invalid)?;

        let mut tx = self.store.begin().await?;
        let mut title = store::get(&mut *tx, id).await?.ok_or(Error::NotFound(id))?;
        title.change(seen, &fields, details, mesh::store::now())?;
        if !store::update(&mut *tx, &title, seen).await? {
            // Another replica changed the title between the two statements. Report the revision that it left.
            let current = store::get(&mut *tx, id).await?.ok_or(Error::NotFound(id))?;
            return Err(Error::Stale { given: seen, current: current.revision }.into());
        }
        let title = Some(title.into());
        tx.publish(&TitleChanged { title: title.clone() })?;
        tx.commit().await?;
        Ok(Response::new(UpdateTitleResponse { title }))
    }

    async fn delete_title(
        &self,
        request: Request<DeleteTitleRequest>,
    ) -> Result<Response<DeleteTitleResponse>, Status> {
        let mut bad = Violations::default();
        let id = bad.uuid(&request.get_ref().title_id, "title_id");
        bad.finish().map_err(Error::Invalid)?;

        let mut tx = self.store.begin().await?;
        let title = store::delete(&mut *tx, id).await?.ok_or(Error::NotFound(id))?;
        tx.publish(&TitleRemoved { title: Some(title.into()) })?;
        tx.commit().await?;
        Ok(Response::new(DeleteTitleResponse {}))
    }
}

//! The contract on one side, the domain on the other.

use contracts::catalog::v1::catalog_service_server::CatalogService;
use contracts::catalog::v1::{self as wire, *};
use mesh::page::Page;
use mesh::store::{self as kit, Once, Store};
use mesh::{Violations, error};
use prost_types::FieldMask;
use tonic::{Code, Request, Response, Status, async_trait};

use crate::domain::{Details, Error, Field, Title};
use crate::store;

/// The domain of this service's reasons.
const DOMAIN: &str = "catalog";

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
        let mut request = request.into_inner();
        let mut bad = Violations::default();
        // Some write UUIDs in capitals; it is the same request.
        request.request_id = bad.uuid(&request.request_id, "request_id").to_string();
        let details = Details {
            name: request.name.clone(),
            synopsis: request.synopsis.clone(),
            year: request.year,
            price_cents: request.price_cents,
        };
        details.check(&Field::ALL, "", &mut bad);
        bad.finish().map_err(Error::Invalid)?;

        let once = kit::Request::new("CreateTitle", &request.request_id, &request);
        let mut tx = match self.store.begin_once(&once).await? {
            Once::New(tx) => tx,
            Once::Done(first) => return Ok(Response::new(first)),
        };
        let title = Title::new(details, kit::now());
        store::insert(&mut *tx, &title).await?;
        let response = CreateTitleResponse { title: Some(title.into()) };
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

    async fn list_titles(&self, request: Request<ListTitlesRequest>) -> Result<Response<ListTitlesResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        let page = Page::read(request.page_size, &request.page_token, &mut bad);
        bad.finish().map_err(Error::Invalid)?;

        let titles = store::list(self.store.reader(), page.after, page.fetch()).await?;
        let (titles, next_page_token) = page.cut(titles, |title| title.id);
        let titles = titles.into_iter().map(wire::Title::from).collect();
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
        bad.check(seen > 0, "title.revision", "must be the revision that was read");
        let details =
            Details { name: given.name, synopsis: given.synopsis, year: given.year, price_cents: given.price_cents };
        let fields = parse_mask(request.update_mask, &details, &mut bad);
        details.check(&fields, "title.", &mut bad);
        bad.finish().map_err(Error::Invalid)?;

        let mut tx = self.store.begin().await?;
        let mut title = store::get(&mut *tx, id).await?.ok_or(Error::NotFound(id))?;
        title.change(seen, &fields, details, kit::now())?;
        if !store::update(&mut *tx, &title, seen).await? {
            // Another replica was faster between the two statements; what it left is what the caller has to read.
            let current = store::get(&mut *tx, id).await?.ok_or(Error::NotFound(id))?;
            return Err(Error::Stale { given: seen, current: current.revision }.into());
        }
        tx.commit().await?;
        Ok(Response::new(UpdateTitleResponse { title: Some(title.into()) }))
    }

    async fn delete_title(
        &self,
        request: Request<DeleteTitleRequest>,
    ) -> Result<Response<DeleteTitleResponse>, Status> {
        let mut bad = Violations::default();
        let id = bad.uuid(&request.get_ref().title_id, "title_id");
        bad.finish().map_err(Error::Invalid)?;

        let mut tx = self.store.begin().await?;
        if !store::delete(&mut *tx, id).await? {
            return Err(Error::NotFound(id).into());
        }
        tx.commit().await?;
        Ok(Response::new(DeleteTitleResponse {}))
    }
}

fn parse_mask(mask: Option<FieldMask>, details: &Details, bad: &mut Violations) -> Vec<Field> {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.is_empty() {
        let populated = details.populated();
        bad.check(!populated.is_empty(), "update_mask", "must name what to change, or title must hold it");
        return populated;
    }
    if paths == ["*"] {
        return Field::ALL.to_vec();
    }
    let known = |path: &String| Field::ALL.into_iter().find(|field| field.name() == path);
    for path in paths.iter().filter(|path| known(path).is_none()) {
        let names = Field::ALL.map(Field::name).join(", ");
        bad.check(
            false,
            "update_mask",
            format!("names `{path}`; what can be changed is {names}, or * for all of them"),
        );
    }
    paths.iter().filter_map(known).collect()
}

impl From<Title> for wire::Title {
    fn from(title: Title) -> Self {
        Self {
            title_id: title.id.to_string(),
            name: title.details.name,
            synopsis: title.details.synopsis,
            year: title.details.year,
            price_cents: title.details.price_cents,
            revision: title.revision,
            create_time: Some(kit::timestamp(title.create_time)),
            update_time: Some(kit::timestamp(title.update_time)),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(violations) => error::invalid_fields(DOMAIN, violations),
            Error::NotFound(_) => error::status(Code::NotFound, DOMAIN, "TITLE_NOT_FOUND", message),
            Error::Stale { current, .. } => {
                let metadata = [("current_revision", current.to_string())];
                error::status_with(Code::FailedPrecondition, DOMAIN, "STALE_REVISION", message, metadata)
            }
            Error::Store(error) => error.into(),
        }
    }
}

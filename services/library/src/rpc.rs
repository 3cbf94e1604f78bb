//! Implements the contract: validates requests, reads the store and the copy, and starts rentals.

use contracts::google::longrunning::Operation;
use contracts::library::v1::library_service_server::LibraryService;
use contracts::library::v1::*;
use mesh::context::Context;
use mesh::events::Copied;
use mesh::operations::Start;
use mesh::page::Page;
use mesh::store::Store;
use mesh::{Operations, Violations};
use tonic::{Request, Response, Status, async_trait};

use crate::domain::{Error, MAX_BATCH, NAME, Offer, Order, viewer};
use crate::rent::Rent;
use crate::store;

pub(crate) struct Library {
    store: Store,
    operations: Operations,
    titles: Copied,
}

impl Library {
    pub(crate) fn new(store: Store, operations: Operations, titles: Copied) -> Self {
        Self { store, operations, titles }
    }
}

#[async_trait]
impl LibraryService for Library {
    async fn rent_title(&self, request: Request<RentTitleRequest>) -> Result<Response<Operation>, Status> {
        let mut request = request.into_inner();
        let mut bad = Violations::default();
        let request_id = bad.uuid(&request.request_id, "request_id");
        // A repeat may spell the title in capitals.
        request.title_id = bad.uuid(&request.title_id, "title_id").to_string();
        let viewer = viewer(&request.viewer_id, &Context::caller(), &mut bad);
        Order::from(&request).check(&mut bad);
        if !request.card.is_empty() {
            bad.text(&request.card, "card", NAME);
        }
        bad.finish().map_err(Error::Invalid)?;
        // A repeat may leave it out.
        request.viewer_id = viewer?;

        let start = Start::<Rent>::saga(request_id, &request);
        if let Some(operation) = self.operations.started(&start).await? {
            return Ok(Response::new(operation));
        }
        self.titles.complete()?;
        let order = Order::from(&request);
        // The saga checks again when it reserves; the caller learns at once of what it can mend.
        Offer::check(store::offer(self.store.reader(), &order).await?, &order)?;
        Ok(Response::new(self.operations.start(&start).await?))
    }

    async fn get_rental(&self, request: Request<GetRentalRequest>) -> Result<Response<GetRentalResponse>, Status> {
        let mut bad = Violations::default();
        let id = bad.uuid(&request.get_ref().rental_id, "rental_id");
        bad.finish().map_err(Error::Invalid)?;

        let rental = store::rental(self.store.reader(), &id.to_string()).await?;
        // A user does not learn that another viewer has it.
        let rental = rental.filter(|rental| Context::caller().may_act_for(&rental.viewer_id));
        let rental = rental.ok_or(Error::NotFound(id))?;
        Ok(Response::new(GetRentalResponse { rental: Some(rental) }))
    }

    async fn list_rentals(
        &self,
        request: Request<ListRentalsRequest>,
    ) -> Result<Response<ListRentalsResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        let viewer = viewer(&request.viewer_id, &Context::caller(), &mut bad);
        let page = Page::read(request.page_size, &request.page_token, &mut bad);
        bad.finish().map_err(Error::Invalid)?;

        let rentals = store::rentals(self.store.reader(), &viewer?, page.after, page.fetch()).await?;
        let (rentals, next_page_token) = page.cut(rentals, |rental| rental.rental_id.parse().unwrap_or_default());
        Ok(Response::new(ListRentalsResponse { rentals, next_page_token }))
    }

    async fn list_current_rentals(
        &self,
        request: Request<ListCurrentRentalsRequest>,
    ) -> Result<Response<ListCurrentRentalsResponse>, Status> {
        let ListCurrentRentalsRequest { viewer_id, title_ids } = request.into_inner();
        let mut bad = Violations::default();
        let viewer = viewer(&viewer_id, &Context::caller(), &mut bad);
        let titles = bad.uuids(&title_ids, "title_ids", MAX_BATCH);
        bad.finish().map_err(Error::Invalid)?;

        let rentals = store::current_rentals(self.store.reader(), &viewer?, &titles).await?;
        Ok(Response::new(ListCurrentRentalsResponse { rentals }))
    }

    async fn get_title(&self, request: Request<GetTitleRequest>) -> Result<Response<GetTitleResponse>, Status> {
        let mut bad = Violations::default();
        let id = bad.uuid(&request.get_ref().title_id, "title_id");
        bad.finish().map_err(Error::Invalid)?;

        self.titles.complete()?;
        let title = store::title(self.store.reader(), id).await?.ok_or(Error::UnknownTitle(id))?;
        Ok(Response::new(GetTitleResponse { title: Some(title) }))
    }

    async fn list_titles(&self, request: Request<ListTitlesRequest>) -> Result<Response<ListTitlesResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        let page = Page::read(request.page_size, &request.page_token, &mut bad);
        bad.finish().map_err(Error::Invalid)?;

        self.titles.complete()?;
        let titles = store::titles(self.store.reader(), page.after, page.fetch()).await?;
        let (titles, next_page_token) = page.cut(titles, |title| title.title_id.parse().unwrap_or_default());
        Ok(Response::new(ListTitlesResponse { titles, next_page_token }))
    }
}

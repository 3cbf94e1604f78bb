//! The contract on one side, the domain on the other.

use contracts::sample::v1::sample_service_server::SampleService;
use contracts::sample::v1::{self as wire, *};
use mesh::store::{self as kit, Once, Store};
use mesh::{Violations, error};
use tonic::{Code, Request, Response, Status, async_trait};

use crate::domain::{Error, Item, NAME, is_name};
use crate::store;

/// The domain of this service's reasons.
const DOMAIN: &str = "sample";

pub(crate) struct Items {
    store: Store,
}

impl Items {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }
}

#[async_trait]
impl SampleService for Items {
    async fn create_item(&self, request: Request<CreateItemRequest>) -> Result<Response<CreateItemResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        let request_id = bad.uuid(&request.request_id, "request_id");
        bad.check(is_name(&request.name), "name", NAME);
        bad.finish().map_err(Error::Invalid)?;

        let request_id = request_id.to_string();
        let once = kit::Request::new("CreateItem", &request_id, &request);
        let mut tx = match self.store.begin_once(&once).await? {
            Once::New(tx) => tx,
            Once::Done(first) => return Ok(Response::new(first)),
        };
        let item = Item::new(request.name, kit::now());
        store::insert(&mut *tx, &item).await?;
        let response = CreateItemResponse { item: Some(item.into()) };
        tx.answer(&once, &response).await?;
        tx.commit().await?;
        Ok(Response::new(response))
    }

    async fn get_item(&self, request: Request<GetItemRequest>) -> Result<Response<GetItemResponse>, Status> {
        let mut bad = Violations::default();
        let id = bad.uuid(&request.get_ref().item_id, "item_id");
        bad.finish().map_err(Error::Invalid)?;

        let item = store::get(self.store.reader(), id).await?.ok_or(Error::NotFound(id))?;
        Ok(Response::new(GetItemResponse { item: Some(item.into()) }))
    }
}

impl From<Item> for wire::Item {
    fn from(item: Item) -> Self {
        let create_time = Some(kit::timestamp(item.create_time));
        Self { item_id: item.id.to_string(), name: item.name, create_time }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(violations) => error::invalid_fields(DOMAIN, violations),
            Error::NotFound(_) => error::status(Code::NotFound, DOMAIN, "ITEM_NOT_FOUND", message),
        }
    }
}

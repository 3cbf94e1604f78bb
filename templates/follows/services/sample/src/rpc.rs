//! Implements the contract: validates requests, reads and writes the store.

use contracts::sample::v1::sample_service_server::SampleService;
use contracts::sample::v1::*;
use mesh::events::Copied;
use mesh::store::{Once, Store};
use mesh::{Resources, Violations};
use tonic::{Request, Response, Status, async_trait};

use crate::domain::{Error, Item, NAME};
use crate::follow;
use crate::store;

pub(crate) struct Items {
    store: Store,
    copied: Copied,
}

impl Items {
    pub(crate) fn new(resources: &Resources) -> Self {
        Self {
            store: resources.store(),
            copied: resources.copy("origin"),
        }
    }
}

#[async_trait]
impl SampleService for Items {
    async fn create_item(&self, request: Request<CreateItemRequest>) -> Result<Response<CreateItemResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        let request_id = bad.uuid(&request.request_id, "request_id");
        bad.text(&request.name, "name", NAME);
        bad.finish().map_err(Error::Invalid)?;

        let once = mesh::store::Request::new("CreateItem", request_id, &request);
        let mut tx = match self.store.begin_once(&once).await? {
            Once::New(tx) => tx,
            Once::Done(first) => return Ok(Response::new(first)),
        };
        let item = Item::new(request.name, mesh::store::now());
        store::insert(&mut tx, &item).await?;
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

    async fn get_copy(&self, request: Request<GetCopyRequest>) -> Result<Response<GetCopyResponse>, Status> {
        let key = request.into_inner().key;
        let mut bad = Violations::default();
        bad.text(&key, "key", follow::KEY);
        bad.finish().map_err(Error::Invalid)?;

        self.copied.complete()?;
        let event = follow::get(self.store.reader(), &key).await?.ok_or(Error::NotCopied(key))?;
        Ok(Response::new(GetCopyResponse { event: Some(event) }))
    }
}

//! Implements the contract: validates requests, reads and writes the store.

use contracts::billing::v1::billing_service_server::BillingService;
use contracts::billing::v1::{
    ChargeMade, ChargeRefunded, ChargeRequest, ChargeResponse, GetChargeRequest, GetChargeResponse, RefundRequest,
    RefundResponse,
};
use mesh::Violations;
use mesh::events::Publish as _;
use mesh::store::Store;
use tonic::{Request, Response, Status, async_trait};
use uuid::Uuid;

use crate::domain::{Charge, Error, Order, State};
use crate::store;

pub(crate) struct Billing {
    store: Store,
}

impl Billing {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }
}

#[async_trait]
impl BillingService for Billing {
    async fn charge(&self, request: Request<ChargeRequest>) -> Result<Response<ChargeResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        let id = bad.uuid(&request.request_id, "request_id");
        let order = Order::from(request);
        order.check(&mut bad);
        bad.finish().map_err(Error::Invalid)?;

        let charge = new(id, order.clone(), order.state());
        let mut tx = self.store.begin().await?;
        // A decline is stored, too: a repeat gets the same answer, and a refund finds it.
        let charge = if store::insert(&mut *tx, &charge).await? {
            if charge.state == State::Charged {
                tx.publish(&ChargeMade { charge: Some(charge.clone().into()) })?;
            }
            charge
        } else {
            store::get(&mut *tx, id).await?.ok_or(Error::NotFound(id))?
        };
        tx.commit().await?;
        Ok(Response::new(ChargeResponse { charge: Some(charge.answer(&order)?.into()) }))
    }

    async fn refund(&self, request: Request<RefundRequest>) -> Result<Response<RefundResponse>, Status> {
        let mut bad = Violations::default();
        let id = bad.uuid(&request.get_ref().request_id, "request_id");
        bad.finish().map_err(Error::Invalid)?;

        let mut tx = self.store.begin().await?;
        // An unknown charge becomes a voided one, so that it is refused if it arrives later.
        store::insert(&mut *tx, &new(id, Order::default(), State::Voided)).await?;
        let refunded = store::refund(&mut *tx, id, mesh::store::now()).await?;
        let charge = store::get(&mut *tx, id).await?.ok_or(Error::NotFound(id))?;
        let charge = Some(charge.into());
        if refunded {
            tx.publish(&ChargeRefunded { charge: charge.clone() })?;
        }
        tx.commit().await?;
        Ok(Response::new(RefundResponse { charge }))
    }

    async fn get_charge(&self, request: Request<GetChargeRequest>) -> Result<Response<GetChargeResponse>, Status> {
        let mut bad = Violations::default();
        let id = bad.uuid(&request.get_ref().charge_id, "charge_id");
        bad.finish().map_err(Error::Invalid)?;

        let charge = store::get(self.store.reader(), id).await?.ok_or(Error::NotFound(id))?;
        Ok(Response::new(GetChargeResponse { charge: Some(charge.into()) }))
    }
}

fn new(id: Uuid, order: Order, state: State) -> Charge {
    let now = mesh::store::now();
    Charge { id, order, state, create_time: now, update_time: now }
}

//! Rents one title: the saga that RentTitle starts.

use contracts::billing::v1::billing_service_client::BillingServiceClient;
use contracts::billing::v1::{Charge, ChargeRequest, RefundRequest};
use contracts::library::v1::{RentTitleRequest, RentTitleResponse, Rental, RentalState};
use mesh::saga::{Forward, Saga, Step, Undo};
use mesh::store::Connection;
use mesh::{Channel, peer};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::domain::{Error, Offer, Order};
use crate::store;

/// The card of a request without one.
const CARD: &str = "test";

pub(crate) struct Rent {
    billing: BillingServiceClient<Channel>,
}

impl Rent {
    pub(crate) fn new(billing: Channel) -> Self {
        Self { billing: BillingServiceClient::new(billing) }
    }

    async fn charge(&self, request_id: Uuid, card: &str, amount_cents: i64) -> Result<Charge, Status> {
        let card = if card.is_empty() { CARD } else { card }.to_owned();
        let request = ChargeRequest { request_id: request_id.to_string(), card, amount_cents };
        match self.billing.clone().charge(request).await {
            Ok(charged) => Ok(charged.into_inner().charge.unwrap_or_default()),
            // The caller learns that the card was declined. Any other failure is one of library.
            Err(status) if status.code() == Code::FailedPrecondition => Err(peer::pass_on(status)),
            Err(status) => Err(status),
        }
    }

    async fn refund(&self, request_id: Uuid) -> Result<(), Status> {
        self.billing.clone().refund(RefundRequest { request_id: request_id.to_string() }).await?;
        Ok(())
    }
}

impl Saga for Rent {
    const KIND: &'static str = "RentTitle";
    const STEPS: &'static [Step] = &[Step::local("reserve"), Step::remote("charge").pivot(), Step::local("grant")];
    type Request = RentTitleRequest;
    type Response = RentTitleResponse;
    type Error = Status;

    async fn run(&self, saga: &Forward, request: RentTitleRequest) -> Result<RentTitleResponse, Status> {
        let name = saga.name();
        let reserved = match saga.finished::<Rental>("reserve")? {
            Some(reserved) => reserved,
            None => {
                let mut step = saga.local("reserve").await?;
                let reserved = reserve(&mut step, id(&name), &Order::from(&request), saga.request_id("charge")).await?;
                step.commit(&reserved).await?;
                reserved
            }
        };
        // Nothing is charged for a title that costs nothing.
        if reserved.price_cents > 0 {
            saga.remote("charge", |id| self.charge(id, &request.card, reserved.price_cents)).await?;
        }
        let granted = match saga.finished::<Rental>("grant")? {
            Some(granted) => granted,
            None => {
                let mut step = saga.local("grant").await?;
                let granted = store::turn(&mut step, id(&name), RentalState::Granted).await?.ok_or(Error::Conflict)?;
                step.commit(&granted).await?;
                granted
            }
        };
        Ok(RentTitleResponse { rental: Some(granted) })
    }

    async fn undo(&self, saga: &Undo<'_>, step: &str, _: &RentTitleRequest) -> Result<(), Status> {
        match step {
            "charge" => self.refund(saga.request_id("charge")).await,
            "reserve" => {
                let mut undo = saga.local().await?;
                store::turn(&mut undo, id(&saga.name()), RentalState::Released).await?;
                Ok(undo.commit().await?)
            }
            // A grant behind a charge is never undone, and one without a charge is undone with its reservation.
            _ => Ok(()),
        }
    }
}

async fn reserve(database: &mut Connection, id: &str, order: &Order, charge: Uuid) -> Result<Rental, Error> {
    if store::reserve(&mut *database, id, order, charge).await? {
        return store::rental(database, id).await?.ok_or(Error::Conflict);
    }
    Offer::check(store::offer(database, order).await?, order)?;
    Err(Error::Conflict)
}

/// The id of an operation, which is that of its rental.
fn id(operation: &str) -> &str {
    operation.rsplit('/').next().unwrap_or_default()
}

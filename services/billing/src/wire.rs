//! Conversions between the contract's messages and the domain's types.

use contracts::billing::v1 as proto;
use mesh::error;
use tonic::{Code, Status};

use crate::domain::{Charge, Error, Order};

/// The domain in the `ErrorInfo` of this service's errors.
const DOMAIN: &str = "billing";

impl From<proto::ChargeRequest> for Order {
    fn from(request: proto::ChargeRequest) -> Self {
        Self { card: request.card, amount_cents: request.amount_cents }
    }
}

impl From<Charge> for proto::Charge {
    fn from(charge: Charge) -> Self {
        Self {
            charge_id: charge.id.to_string(),
            card: charge.order.card,
            amount_cents: charge.order.amount_cents,
            state: charge.state as i32,
            create_time: Some(mesh::store::timestamp(charge.create_time)),
            update_time: Some(mesh::store::timestamp(charge.update_time)),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(violations) => error::invalid_fields(DOMAIN, violations),
            Error::NotFound(_) => error::status(Code::NotFound, DOMAIN, "CHARGE_NOT_FOUND", message),
            Error::Declined => error::status(Code::FailedPrecondition, DOMAIN, "CARD_DECLINED", message),
            Error::Voided(_) => error::status(Code::FailedPrecondition, DOMAIN, "CHARGE_VOIDED", message),
            Error::Store(error) => error.into(),
        }
    }
}

//! Conversions between the contract's messages and the domain's types.

use contracts::library::v1::RentTitleRequest;
use mesh::error;
use tonic::{Code, Status};

use crate::domain::{Error, Order, operation};

/// The domain in the `ErrorInfo` of this service's errors.
const DOMAIN: &str = "library";

/// Of a request whose title was checked.
impl From<&RentTitleRequest> for Order {
    fn from(request: &RentTitleRequest) -> Self {
        let title = request.title_id.parse().unwrap_or_default();
        Self { viewer: request.viewer_id.clone(), title, price_cents: request.expected_price_cents }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(violations) => error::invalid_fields(DOMAIN, violations),
            Error::NotTheCaller => error::status(Code::PermissionDenied, DOMAIN, "VIEWER_NOT_CALLER", message),
            Error::UnknownTitle(_) => error::status(Code::NotFound, DOMAIN, "TITLE_NOT_FOUND", message),
            Error::NotFound(_) => error::status(Code::NotFound, DOMAIN, "RENTAL_NOT_FOUND", message),
            Error::Rented(rental) => {
                let metadata = [("operation", operation(&rental))];
                error::status_with(Code::AlreadyExists, DOMAIN, "ALREADY_RENTED", message, metadata)
            }
            Error::PriceChanged { current, .. } => {
                let metadata = [("price_cents", current.to_string())];
                error::status_with(Code::FailedPrecondition, DOMAIN, "PRICE_CHANGED", message, metadata)
            }
            Error::Conflict => error::status(Code::Aborted, DOMAIN, "RENTAL_CONFLICT", message),
            Error::Store(error) => error.into(),
        }
    }
}

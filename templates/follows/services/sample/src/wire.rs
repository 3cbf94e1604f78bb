//! Conversions between the contract's messages and the domain's types.

use contracts::sample::v1 as proto;
use mesh::error;
use tonic::{Code, Status};

use crate::domain::{Error, Item};

/// The domain in the `ErrorInfo` of this service's errors.
const DOMAIN: &str = "sample";

impl From<Item> for proto::Item {
    fn from(item: Item) -> Self {
        let create_time = Some(mesh::store::timestamp(item.create_time));
        Self { item_id: item.id.to_string(), name: item.name, create_time }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Invalid(violations) => error::invalid_fields(DOMAIN, violations),
            Error::NotFound(_) => error::status(Code::NotFound, DOMAIN, "ITEM_NOT_FOUND", message),
            Error::NotCopied(_) => error::status(Code::NotFound, DOMAIN, "COPY_NOT_FOUND", message),
        }
    }
}

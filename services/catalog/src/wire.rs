//! Conversions between the contract's messages and the domain's types.

use contracts::catalog::v1 as proto;
use mesh::{Violations, error};
use prost_types::FieldMask;
use tonic::{Code, Status};

use crate::domain::{Details, Error, Field, Title};

/// The domain in the `ErrorInfo` of this service's errors.
const DOMAIN: &str = "catalog";

impl From<&proto::CreateTitleRequest> for Details {
    fn from(request: &proto::CreateTitleRequest) -> Self {
        Self {
            name: request.name.clone(),
            synopsis: request.synopsis.clone(),
            year: request.year,
            price_cents: request.price_cents,
        }
    }
}

impl From<proto::Title> for Details {
    fn from(title: proto::Title) -> Self {
        Self { name: title.name, synopsis: title.synopsis, year: title.year, price_cents: title.price_cents }
    }
}

/// The fields that an update changes (AIP-134): without a mask, those that `details` populates.
pub(crate) fn fields(mask: Option<FieldMask>, details: &Details, bad: &mut Violations) -> Vec<Field> {
    let paths = mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.is_empty() {
        let populated = details.populated();
        bad.check(!populated.is_empty(), "update_mask", "must name a field to change, or title must set one");
        return populated;
    }
    if paths == ["*"] {
        return Field::ALL.to_vec();
    }
    let alone = paths.iter().all(|path| path != "*");
    bad.check(alone, "update_mask", "has `*` beside other fields: send `*` alone, or the fields without it");
    let known = |path: &String| Field::ALL.into_iter().find(|field| field.name() == path);
    for path in paths.iter().filter(|path| *path != "*" && known(path).is_none()) {
        let names = Field::ALL.map(Field::name).join(", ");
        bad.check(false, "update_mask", format!("has unknown field `{path}`: use {names}, or * for all"));
    }
    paths.iter().filter_map(known).collect()
}

impl From<Title> for proto::Title {
    fn from(title: Title) -> Self {
        Self {
            title_id: title.id.to_string(),
            name: title.details.name,
            synopsis: title.details.synopsis,
            year: title.details.year,
            price_cents: title.details.price_cents,
            revision: title.revision,
            create_time: Some(mesh::store::timestamp(title.create_time)),
            update_time: Some(mesh::store::timestamp(title.update_time)),
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

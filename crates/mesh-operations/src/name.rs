//! The names of operations: `services/{service}/operations/{uuid}`.
//!
//! The name contains the service, so that one port serves the operations of several services.

use mesh_rpc::call::Violations;
use mesh_rpc::call::error::{DOMAIN, status};
use tonic::{Code, Status};
use uuid::Uuid;

/// The parts of the name of an operation.
pub(super) struct Name<'a> {
    pub(super) service: &'a str,
    pub(super) id: Uuid,
}

pub(super) fn format(service: &str, id: Uuid) -> String {
    format!("services/{service}/operations/{id}")
}

/// NOT_FOUND: the operation does not exist for the caller.
pub(super) fn unknown(name: &str) -> Status {
    status(Code::NotFound, DOMAIN, "OPERATION_NOT_FOUND", format!("there is no operation {name}"))
}

/// Parses a name, and adds a violation if it is not valid.
pub(super) fn parse<'a>(name: &'a str, bad: &mut Violations) -> Option<Name<'a>> {
    let parts: Vec<_> = name.split('/').collect();
    let parsed = match parts[..] {
        ["services", service, "operations", id] if !service.is_empty() && id.len() == 36 => {
            Uuid::try_parse(id).ok().map(|id| Name { service, id })
        }
        _ => None,
    };
    bad.check(parsed.is_some(), "name", "must be services/{service}/operations/{uuid}");
    parsed
}

/// Parses `services/{service}`, and adds a violation of `field` if it is not valid.
pub(super) fn parse_parent<'a>(field: &str, parent: &'a str, bad: &mut Violations) -> Option<&'a str> {
    let service = parent.strip_prefix("services/").filter(|service| !service.is_empty() && !service.contains('/'));
    bad.check(service.is_some(), field, "must be services/{service}");
    service
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_round_trips() {
        let id = Uuid::now_v7();
        let text = format("artwork", id);
        let mut bad = Violations::default();
        let name = parse(&text, &mut bad).unwrap();
        assert_eq!((name.service, name.id), ("artwork", id));
    }

    #[test]
    fn name_that_does_not_parse_is_a_violation() {
        for text in ["", "services/artwork", "services//operations/x", "operations/1", "services/a/operations/1"] {
            let mut bad = Violations::default();
            assert!(parse(text, &mut bad).is_none());
            assert!(bad.finish().is_err(), "{text}");
        }
    }
}

//! What a message of an operation says, for programs that pass it on in a shape of their own.

use mesh_proto::google::longrunning::{Operation, operation};
use mesh_proto::mesh::operations::v1::OperationMetadata;
use tonic_types::RpcStatusExt as _;

/// The service in the name of an operation, `services/{service}/operations/{uuid}`. `None` for another text; the
/// service itself checks the rest.
pub fn service_of(name: &str) -> Option<&str> {
    let parts: Vec<_> = name.split('/').collect();
    match parts[..] {
        ["services", service, "operations", id] if !service.is_empty() && is_uuid(id) => Some(service),
        _ => None,
    }
}

fn is_uuid(text: &str) -> bool {
    let hyphens = [8, 13, 18, 23];
    text.len() == 36
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if hyphens.contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() })
}

/// The metadata of an operation; empty if it has none that can be read.
pub fn metadata(operation: &Operation) -> OperationMetadata {
    let metadata = operation.metadata.as_ref().and_then(|metadata| metadata.to_msg().ok());
    metadata.unwrap_or_default()
}

/// Why an operation failed: the reason that its service gives, such as `CARD_DECLINED`, which is empty if there is
/// none. `None` if it has not failed.
pub fn reason(operation: &Operation) -> Option<String> {
    let Some(operation::Result::Error(error)) = &operation.result else { return None };
    Some(error.get_details_error_info().map(|info| info.reason).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt as _, pb};

    #[test]
    fn service_of_a_name_is_its_second_segment() {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert_eq!(service_of(&format!("services/artwork/operations/{id}")), Some("artwork"));
        for text in ["", "services/a/operations/1", "services//operations/", &format!("services//operations/{id}")] {
            assert_eq!(service_of(text), None, "{text}");
        }
        assert_eq!(service_of(&format!("services/a/operations/{}", id.replace('-', "0"))), None);
        assert_eq!(service_of(&format!("services/a/operations/{id}/x")), None);
    }

    #[test]
    fn reason_is_that_of_the_error() {
        let error = |error| Operation { result: Some(operation::Result::Error(error)), ..Operation::default() };
        let details = ErrorDetails::with_error_info("CARD_DECLINED", "billing", []);
        let declined = Status::with_error_details(Code::FailedPrecondition, "declined", details);
        let declined = pb::Status::decode(declined.details()).unwrap();
        assert_eq!(reason(&error(declined)).as_deref(), Some("CARD_DECLINED"));
        assert_eq!(reason(&error(pb::Status::default())).as_deref(), Some(""));
        assert_eq!(reason(&Operation::default()), None);
    }
}

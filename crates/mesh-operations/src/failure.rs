//! Failures: whether a retry makes sense, how callers see them, and those with which mesh ends operations.

use mesh_proto::google::longrunning::operation;
use mesh_rpc::call::error::{DOMAIN, status};
use mesh_rpc::call::peer;
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Whether a failure with this code may be transient, so that a retry makes sense.
pub(super) fn is_transient(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Internal
            | Code::Unknown
    )
}

/// Whether the attempt failed because a database takes no statements. A database that was busy may be so because of the
/// work.
pub(super) fn is_outage(status: &Status) -> bool {
    let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN);
    info.is_some_and(|info| {
        info.reason == "DATABASE_UNAVAILABLE" && info.metadata.get("condition").is_none_or(|how| how != "busy")
    })
}

/// The end of an operation that failed.
pub(super) fn error(status: &Status) -> operation::Result {
    operation::Result::Error(wire(status))
}

/// A failure as callers see it.
pub(super) fn wire(status: &Status) -> tonic_types::Status {
    // The peer's code has decided about a retry. Callers see the service's.
    let status = peer::own(status.clone());
    // The details of a status, if it has any, are a complete google.rpc.Status.
    let whole = tonic_types::Status::decode(status.details()).ok().filter(|whole| whole.code != 0);
    whole.unwrap_or_else(|| tonic_types::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

pub(super) fn cancelled() -> Status {
    status(Code::Cancelled, DOMAIN, "OPERATION_CANCELLED", "the operation was cancelled")
}

pub(super) fn past_deadline() -> Status {
    status(
        Code::DeadlineExceeded,
        DOMAIN,
        "OPERATION_DEADLINE_EXCEEDED",
        "the operation did not end before its deadline",
    )
}

pub(super) fn abandoned() -> Status {
    let message =
        "the last attempt ended without a result: its worker died, stood still past its lease, or was cut off";
    status(Code::Internal, DOMAIN, "OPERATION_ABANDONED", message)
}

pub(super) fn panicked() -> Status {
    status(Code::Internal, DOMAIN, "OPERATION_PANICKED", "internal error; its cause is in the service's log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_keeps_the_details_of_its_status() {
        let operation::Result::Error(wire) = error(&past_deadline()) else { panic!() };
        assert_eq!(wire.code, i32::from(Code::DeadlineExceeded));
        assert_eq!(wire.details.len(), 1);
    }
}

//! How failures cross the wire: a gRPC code, a message for developers, and a `google.rpc.ErrorInfo` whose reason a
//! program may rely on ([AIP-193](https://google.aip.dev/193)).
//!
//! Causes stay here. A status may carry its cause as `source`, which is logged once, by the telemetry layer, and never
//! sent. So conversions are pure, and no client reads the text of a database.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};
use uuid::Uuid;

/// The domain of reasons that every service shares.
pub const DOMAIN: &str = "mesh";

/// A failure with its reason. `domain` is the service that failed.
pub fn status(code: Code, domain: &str, reason: &str, message: impl Into<String>) -> Status {
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, domain, HashMap::new()))
}

/// A failure with its reason, and facts that a program may act on.
pub fn status_with<const N: usize>(
    code: Code,
    domain: &str,
    reason: &str,
    message: impl Into<String>,
    metadata: [(&str, String); N],
) -> Status {
    let metadata: HashMap<String, String> = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, domain, metadata))
}

/// INVALID_ARGUMENT, reason `INVALID_FIELDS`, with every bad field. The caller must not retry unchanged.
pub fn invalid_fields(domain: &str, violations: Violations) -> Status {
    let message = violations.to_string();
    let mut details = ErrorDetails::with_bad_request(violations.0);
    details.set_error_info("INVALID_FIELDS", domain, HashMap::new());
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// DEADLINE_EXCEEDED. Whether the work was done is not known; only an idempotent call may be tried again.
pub fn exceeded() -> Status {
    status(Code::DeadlineExceeded, DOMAIN, "DEADLINE_EXCEEDED", "the caller's deadline is over")
}

/// UNAVAILABLE, with the invitation to come back after `delay`.
pub fn unavailable(reason: &str, message: impl Into<String>, delay: Duration) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    details.set_retry_info(Some(delay));
    Status::with_error_details(Code::Unavailable, message, details)
}

/// RESOURCE_EXHAUSTED, reason `OVERLOADED`, with the invitation to come back after `delay`.
pub fn overloaded(message: impl Into<String>, delay: Duration) -> Status {
    let mut details = ErrorDetails::with_error_info("OVERLOADED", DOMAIN, HashMap::new());
    details.set_retry_info(Some(delay));
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// What gRPC's machinery says of a request that it cannot read.
const MALFORMED: [&str; 4] = ["failed to decode", "Unexpected EOF", "protocol error", "Missing request message"];

/// A failure that comes without a reason is gRPC's own machinery's, or a service's that did not care. It gets one.
pub fn with_reason(bare: Status) -> Status {
    let message = bare.message();
    let (code, reason) = match bare.code() {
        // The code that gRPC's other implementations have for this.
        Code::OutOfRange if message.contains("message length too large") => {
            (Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
        }
        // Not a defect of ours: what came is no message of the contract.
        Code::Internal | Code::Unknown if MALFORMED.iter().any(|words| message.contains(words)) => {
            (Code::InvalidArgument, "MALFORMED_MESSAGE")
        }
        Code::Unimplemented if message.contains("compressed with") => (Code::Unimplemented, "UNSUPPORTED_COMPRESSION"),
        Code::Unimplemented => (Code::Unimplemented, "UNKNOWN_METHOD"),
        code => (code, "UNSPECIFIED"),
    };
    let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    // Such as which encodings it takes.
    let metadata = bare.metadata().clone();
    let mut reasoned = Status::with_error_details_and_metadata(code, message, details, metadata);
    if std::error::Error::source(&bare).is_some() {
        reasoned.set_source(Arc::new(bare));
    }
    reasoned
}

/// INTERNAL: a defect or a broken machine. The cause is for the log; the client learns nothing of it.
pub fn internal(cause: Arc<dyn std::error::Error + Send + Sync>) -> Status {
    let mut status = status(Code::Internal, DOMAIN, "INTERNAL", "internal error; its cause is in the service's log");
    status.set_source(cause);
    status
}

/// Everything wrong with one request, collected before anything is answered.
#[derive(Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// Notes that `field` is bad unless `valid`; `description` says what it must be.
    pub fn check(&mut self, valid: bool, field: &str, description: impl Into<String>) {
        if !valid {
            self.0.push(FieldViolation::new(field, description));
        }
    }

    /// Reads a UUID in its one form, with hyphens; notes it as bad, and gives the nil UUID, if it is none.
    pub fn uuid(&mut self, text: &str, field: &str) -> Uuid {
        let id = Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
        self.check(id.is_some(), field, "must be a UUID such as 019b76da-a800-7000-8000-000000000000");
        id.unwrap_or_default()
    }

    /// Gives `Err` with all of them, if there are any.
    ///
    /// # Errors
    ///
    /// The violations themselves, for [`invalid_fields`].
    pub fn finish(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl std::fmt::Display for Violations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let each: Vec<_> = self.0.iter().map(|bad| format!("{} {}", bad.field, bad.description)).collect();
        f.write_str(&each.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_field_is_listed_at_once() {
        let mut violations = Violations::default();
        violations.check(false, "name", "must not be blank");
        violations.check(true, "synopsis", "must be short");
        violations.check(false, "year", "must be 1888 to 2100");
        let status = invalid_fields("catalog", violations.finish().unwrap_err());

        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "name must not be blank; year must be 1888 to 2100");
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "INVALID_FIELDS");
        let fields: Vec<_> = details.bad_request().unwrap().field_violations.iter().map(|bad| &bad.field).collect();
        assert_eq!(fields, ["name", "year"]);
    }

    #[test]
    fn a_request_without_a_message_is_no_defect_of_ours() {
        let reasoned = with_reason(Status::internal("Missing request message."));
        assert_eq!(reasoned.code(), Code::InvalidArgument);
    }

    #[test]
    fn what_comes_with_a_failure_stays_with_it() {
        let mut bare = Status::unimplemented("Content is compressed with `br` which isn't supported");
        bare.metadata_mut().insert("grpc-accept-encoding", "identity".parse().unwrap());
        let reasoned = with_reason(bare);
        assert_eq!(reasoned.metadata().get("grpc-accept-encoding").unwrap(), "identity");
        assert_eq!(reasoned.get_error_details().error_info().unwrap().reason, "UNSUPPORTED_COMPRESSION");
    }

    #[test]
    fn a_cause_is_kept_but_not_sent() {
        let status = internal(Arc::new(std::io::Error::other("table titles is corrupt")));
        assert!(std::error::Error::source(&status).unwrap().to_string().contains("corrupt"));
        let response = status.into_http::<()>();
        assert!(!format!("{:?}", response.headers()).contains("corrupt"));
    }
}

//! Errors as they cross the wire: a gRPC code, a message for developers, and a `google.rpc.ErrorInfo` with a stable
//! reason.
//!
//! Guarantees:
//! - A status may carry its cause as `source`. The telemetry layer logs the cause once; no response contains it
//!   (INV-5).
//! - Conversions are pure: they log nothing.
//!
//! See [AIP-193](https://google.aip.dev/193).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};
use uuid::Uuid;

use super::pushback::Pushback;
use super::text::Text;

/// The domain of the reasons that all services share.
pub const DOMAIN: &str = "mesh";

/// A status with a reason. `domain` is the service that failed.
pub fn status(code: Code, domain: &str, reason: &str, message: impl Into<String>) -> Status {
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, domain, HashMap::new()))
}

/// A status with a reason, and with metadata for programs.
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

/// INVALID_ARGUMENT, reason `INVALID_FIELDS`, with all invalid fields. The caller must not retry the request unchanged.
pub fn invalid_fields(domain: &str, violations: Violations) -> Status {
    let message = violations.to_string();
    let mut details = ErrorDetails::with_bad_request(violations.0);
    details.set_error_info("INVALID_FIELDS", domain, HashMap::new());
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// DEADLINE_EXCEEDED. The server may or may not have done the work: the caller may retry only an idempotent call.
pub fn exceeded() -> Status {
    status(Code::DeadlineExceeded, DOMAIN, "DEADLINE_EXCEEDED", "the deadline passed before the call ended")
}

/// The reason of a stream that ends in order.
pub const STREAM_DRAINING: &str = "STREAM_DRAINING";

/// UNAVAILABLE, `STREAM_DRAINING`: a stream ends in order. The client may resume it at once, at another instance or
/// over another connection.
pub fn draining(message: impl Into<String>) -> Status {
    unavailable(STREAM_DRAINING, message, Duration::from_millis(100))
}

/// The reason of a call to a process that starts. No handler has begun.
pub const STARTING: &str = "STARTING";

/// The reason of a call to a sidecar that cannot connect to its app. No handler has begun.
pub const APP_UNREACHABLE: &str = "APP_UNREACHABLE";

/// The reason of a call whose copies are not as far as its caller has asked for.
pub const NOT_CAUGHT_UP: &str = "NOT_CAUGHT_UP";

/// UNAVAILABLE with a `RetryInfo`. The caller may retry after `delay`.
pub fn unavailable(reason: &str, message: impl Into<String>, delay: Duration) -> Status {
    unavailable_with(reason, message, delay, [])
}

/// As [`unavailable`], with metadata for programs.
pub fn unavailable_with<const N: usize>(
    reason: &str,
    message: impl Into<String>,
    delay: Duration,
    metadata: [(&str, String); N],
) -> Status {
    retry_after(Code::Unavailable, reason, message, delay, metadata)
}

/// RESOURCE_EXHAUSTED, reason `OVERLOADED`, with a `RetryInfo`. The caller may retry after `delay`.
pub fn overloaded(message: impl Into<String>, delay: Duration) -> Status {
    exhausted("OVERLOADED", message, delay)
}

/// RESOURCE_EXHAUSTED with a reason and a `RetryInfo`. The caller may retry after `delay`.
pub fn exhausted(reason: &str, message: impl Into<String>, delay: Duration) -> Status {
    retry_after(Code::ResourceExhausted, reason, message, delay, [])
}

fn retry_after<const N: usize>(
    code: Code,
    reason: &str,
    message: impl Into<String>,
    delay: Duration,
    metadata: [(&str, String); N],
) -> Status {
    let metadata: HashMap<String, String> = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    details.set_retry_info(Some(delay));
    let mut status = Status::with_error_details(code, message, details);
    Pushback::After(delay).write(&mut status);
    status
}

/// Texts of tonic's messages for requests that it cannot decode.
const UNDECODABLE: [&str; 4] = ["failed to decode", "Unexpected EOF", "protocol error", "Missing request message"];

/// Texts of tonic's messages for answers that it cannot read.
const UNREADABLE: [&str; 4] = ["decoded message length too large", "compressed with", "decompress", "Missing response"];

/// Whether tonic produced this status because it could not read a message, of a request or of an answer.
pub fn is_unreadable(status: &Status) -> bool {
    let mut texts = UNDECODABLE.iter().chain(&UNREADABLE);
    status.details().is_empty() && texts.any(|words| status.message().contains(words))
}

/// Adds a reason to a status without one. Such a status comes from tonic or from a service that sets no details.
pub fn with_reason(status: Status) -> Status {
    let mut message = status.message().to_owned();
    let (code, reason) = match status.code() {
        // Other gRPC implementations use RESOURCE_EXHAUSTED for this.
        Code::OutOfRange if message.contains("message length too large") => {
            message = too_large(&message).unwrap_or(message);
            (Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
        }
        // gRPC's document on compression demands this code.
        Code::Internal if message.contains("no grpc-encoding was specified") => (Code::Internal, "MISSING_ENCODING"),
        // The client sent bytes that are no message of the contract: not an internal error.
        Code::Internal | Code::Unknown if UNDECODABLE.iter().any(|words| message.contains(words)) => {
            (Code::InvalidArgument, "MALFORMED_MESSAGE")
        }
        Code::Unimplemented if message.contains("compressed with") => (Code::Unimplemented, "UNSUPPORTED_COMPRESSION"),
        Code::Unimplemented => (Code::Unimplemented, "UNKNOWN_METHOD"),
        code => (code, "UNSPECIFIED"),
    };
    let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    // The metadata may list the accepted encodings.
    let metadata = status.metadata().clone();
    let mut detailed = Status::with_error_details_and_metadata(code, message, details, metadata);
    if std::error::Error::source(&status).is_some() {
        detailed.set_source(Arc::new(status));
    }
    detailed
}

/// What tonic says of a message that is too large, as this project says it. `None`: tonic says it without the numbers.
fn too_large(message: &str) -> Option<String> {
    let mut numbers = message.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let (found, limit) = (numbers.next()?, numbers.next()?);
    Some(format!("the message has {found} bytes, and the method takes at most {limit}"))
}

/// INTERNAL: a defect or a broken dependency. The log shows the cause; the client does not see it. The caller must not
/// retry.
pub fn internal(cause: Arc<dyn std::error::Error + Send + Sync>) -> Status {
    let mut status = status(Code::Internal, DOMAIN, "INTERNAL", "internal error; its cause is in the service's log");
    status.set_source(cause);
    status
}

/// The invalid fields of one request. A service collects all of them before it answers.
#[derive(Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// Records `field` as invalid unless `valid`. `description` states what the field must be.
    pub fn check(&mut self, valid: bool, field: &str, description: impl Into<String>) {
        if !valid {
            self.0.push(FieldViolation::new(field, description));
        }
    }

    /// Parses a UUID in the form with hyphens. Any other text is recorded as invalid and yields the nil UUID.
    pub fn uuid(&mut self, text: &str, field: &str) -> Uuid {
        let id = Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
        self.check(id.is_some(), field, "must be a UUID such as 019b76da-a800-7000-8000-000000000000");
        id.unwrap_or_default()
    }

    /// Parses a list of 1 to `most` UUIDs, as [`uuid`](Self::uuid) does each. Records `field` as invalid if the number
    /// is wrong, and `field[index]` for each text that is no UUID, of the first `most`.
    pub fn uuids(&mut self, texts: &[String], field: &str, most: usize) -> Vec<Uuid> {
        self.check((1..=most).contains(&texts.len()), field, format!("must have 1 to {most} elements"));
        let each = texts.iter().take(most).enumerate();
        each.map(|(index, text)| self.uuid(text, &format!("{field}[{index}]"))).collect()
    }

    /// Records `field` as invalid unless `text` follows the rule.
    pub fn text(&mut self, text: &str, field: &str, rule: Text) {
        self.check(rule.accepts(text), field, format!("must have {rule}"));
    }

    /// Fails if there is any violation.
    ///
    /// # Errors
    ///
    /// All violations, for [`invalid_fields`].
    pub fn finish(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl std::fmt::Display for Violations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A violation without a field is about the request as a whole.
        let each = self.0.iter().map(|bad| format!("{} {}", bad.field, bad.description).trim_start().to_owned());
        let each: Vec<_> = each.collect();
        f.write_str(&each.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_list_every_invalid_field() {
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
    fn violations_name_each_bad_uuid_of_a_list() {
        let listed = |texts: &[&str]| {
            let mut violations = Violations::default();
            let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
            let ids = violations.uuids(&texts, "ids", 3);
            let bad: Vec<_> = violations.0.into_iter().map(|bad| bad.field).collect();
            (ids.len(), bad.join(" "))
        };
        let id = "019b76da-a800-7000-8000-000000000000";
        assert_eq!(listed(&[id, id]), (2, String::new()));
        assert_eq!(listed(&["x", id, ""]), (3, "ids[0] ids[2]".to_owned()));
        assert_eq!(listed(&[]), (0, "ids".to_owned()));
        assert_eq!(listed(&[id, "x", id, "x"]), (3, "ids ids[1]".to_owned()), "the rest is not read");
    }

    #[test]
    fn reason_of_a_missing_message_is_the_clients() {
        let detailed = with_reason(Status::internal("Missing request message."));
        assert_eq!(detailed.code(), Code::InvalidArgument);
    }

    #[test]
    fn reason_of_a_message_that_is_too_large_names_the_limit() {
        let tonic = "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes";
        let detailed = with_reason(Status::out_of_range(tonic));
        assert_eq!(detailed.code(), Code::ResourceExhausted);
        assert_eq!(detailed.get_error_details().error_info().unwrap().reason, "MESSAGE_TOO_LARGE");
        assert_eq!(detailed.message(), "the message has 9 bytes, and the method takes at most 4");
    }

    #[test]
    fn reason_keeps_the_metadata_of_the_status() {
        let mut status = Status::unimplemented("Content is compressed with `br` which isn't supported");
        status.metadata_mut().insert("grpc-accept-encoding", "identity".parse().unwrap());
        let detailed = with_reason(status);
        assert_eq!(detailed.metadata().get("grpc-accept-encoding").unwrap(), "identity");
        assert_eq!(detailed.get_error_details().error_info().unwrap().reason, "UNSUPPORTED_COMPRESSION");
    }

    #[test]
    fn internal_keeps_the_cause_and_does_not_send_it() {
        let status = internal(Arc::new(std::io::Error::other("table titles is corrupt")));
        assert!(std::error::Error::source(&status).unwrap().to_string().contains("corrupt"));
        let response = status.into_http::<()>();
        assert!(!format!("{:?}", response.headers()).contains("corrupt"));
    }
}

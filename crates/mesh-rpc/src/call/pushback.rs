//! `grpc-retry-pushback-ms`: a server tells clients when to retry, in milliseconds, or that they must not ([gRFC
//! A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback)). Clients outside of mesh read it
//! instead of the `RetryInfo`.

use std::time::Duration;

use http::HeaderMap;
use tonic::Status;
use tonic::metadata::MetadataValue;

/// The header.
pub const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// What a server asks of its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// There is no header.
    Unspecified,
    /// A retry after this time is invited.
    After(Duration),
    /// The header is negative or malformed: there must be no retry.
    Never,
}

impl Pushback {
    /// Reads it from the headers or trailers of a failure.
    pub fn of_headers(headers: &HeaderMap) -> Self {
        Self::of(headers.get_all(RETRY_PUSHBACK).iter().map(|value| value.to_str().ok()))
    }

    /// Reads it from a status that a client received.
    pub fn of_status(status: &Status) -> Self {
        Self::of(status.metadata().get_all(RETRY_PUSHBACK).iter().map(|value| value.to_str().ok()))
    }

    fn of<'a>(mut values: impl Iterator<Item = Option<&'a str>>) -> Self {
        let Some(value) = values.next() else { return Self::Unspecified };
        let digits = value.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let millis = digits.and_then(|digits| digits.parse::<i32>().ok()).and_then(|millis| u64::try_from(millis).ok());
        match (millis, values.next()) {
            (Some(millis), None) => Self::After(Duration::from_millis(millis)),
            _ => Self::Never,
        }
    }

    /// Writes the header into a status.
    pub fn write(self, status: &mut Status) {
        let millis = match self {
            Self::Unspecified => return,
            Self::After(delay) => i32::try_from(delay.as_millis()).unwrap_or(i32::MAX),
            Self::Never => -1,
        };
        status.metadata_mut().insert(RETRY_PUSHBACK, MetadataValue::from(millis));
    }
}

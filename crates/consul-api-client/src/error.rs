//! Classifies failures by the action that the caller can take.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// A failed request.
///
/// After [`Unreachable`](Self::Unreachable) and [`Timeout`](Self::Timeout), a write may have happened or may still
/// happen. Register, deregister and compare-and-set are safe to repeat.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An invalid setting: URL, token or certificate file. Do not retry.
    #[error("{0}")]
    Configuration(String),
    /// The connection failed, or broke before the response was complete. Retry with a backoff.
    #[error("Consul at {address} is unreachable: {}", Chain(source.as_ref()))]
    Unreachable {
        /// The base URL.
        address: String,
        /// The network error.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The response did not arrive within the limit. Retry with a backoff.
    #[error("Consul at {address} did not answer within {limit:?}")]
    Timeout {
        /// The base URL.
        address: String,
        /// The limit of this request, including the wait of a blocking query.
        limit: Duration,
    },
    /// One side rejected the other's certificate. Retry rarely, because rotation may bring a valid one; log the error.
    #[error("TLS with Consul at {address} failed: {}", Chain(source.as_ref()))]
    Tls {
        /// The base URL.
        address: String,
        /// The TLS error.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// 403: the token is unknown or lacks a rule. Retry rarely, because a new token takes time to replicate; log the
    /// error.
    #[error("Consul denied {request}: {message}")]
    Permission {
        /// Method and path.
        request: String,
        /// Consul's message.
        message: String,
    },
    /// 404, or the 500 that older versions answer instead: the service, check or session does not exist. Do not retry;
    /// create it again.
    #[error("Consul found no match for {request}: {message}")]
    NotFound {
        /// Method and path.
        request: String,
        /// Consul's message.
        message: String,
    },
    /// Any other status. Retry 5xx and 429 with a backoff: no leader, a lost server, a rate limit. Do not retry others.
    #[error("Consul answered {request} with {status}: {message}")]
    Status {
        /// Method and path.
        request: String,
        /// The HTTP status code.
        status: u16,
        /// Consul's message.
        message: String,
    },
    /// The response is larger than 64 MiB; the address may belong to another program. Do not retry.
    #[error("the response to {request} is larger than {limit} bytes: no response of Consul is")]
    TooLarge {
        /// Method and path.
        request: String,
        /// The largest body, in bytes.
        limit: usize,
    },
    /// The response is not the expected JSON; the address may belong to another program. Do not retry.
    #[error("the response to {request} is not the JSON that Consul sends: {source}")]
    Undecodable {
        /// Method and path.
        request: String,
        /// The position and cause.
        source: serde_json::Error,
    },
}

/// The most bytes of a body that are a message.
const LONGEST: usize = 400;

impl Error {
    /// Whether the same request can succeed later without a change: `Unreachable`, `Timeout`, and status 5xx or 429.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }

    /// The ACL rule that the token lacks, such as `service:write on artwork`; `None` if Consul does not name it. Older
    /// versions name it for services only.
    pub fn missing_rule(&self) -> Option<String> {
        let Self::Permission { message, .. } = self else { return None };
        let (_, rule) = message.split_once("Missing ").or_else(|| message.split_once("lacks permission "))?;
        Some(rule.trim().replace(['\'', '"'], ""))
    }

    pub(crate) fn status(request: String, status: u16, body: &[u8]) -> Self {
        // One line: the body may be of another program, and large.
        let text = String::from_utf8_lossy(&body[..body.len().min(LONGEST)]);
        let message = text.trim().lines().next().unwrap_or_default().to_owned();
        // Older versions, 1.8 among them, answer 500 and differ in the message only.
        let unknown = ["Unknown service", "Unknown check"].iter().any(|words| message.starts_with(words))
            || message.contains("does not have associated TTL");
        match status {
            403 => Self::Permission { request, message },
            404 => Self::NotFound { request, message },
            500 if unknown => Self::NotFound { request, message },
            _ => Self::Status { request, status, message },
        }
    }

    /// Turns `NotFound` into `None`.
    pub(crate) fn none<T>(self) -> Result<Option<T>, Self> {
        if matches!(self, Self::NotFound { .. }) { Ok(None) } else { Err(self) }
    }
}

/// Joins an error and its causes in one line: "connection refused" is the third cause.
struct Chain<'a>(&'a (dyn StdError + Send + Sync + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !last.contains(&text) {
                write!(f, ": {text}")?;
            }
            (last, cause) = (text, error.source());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Error;

    fn status(status: u16, text: &str) -> Error {
        Error::status("PUT /v1/x".to_owned(), status, text.as_bytes())
    }

    #[test]
    fn missing_rule_reads_old_and_new_messages() {
        let old = status(403, "Permission denied: Missing service:write on artwork");
        assert_eq!(old.missing_rule().as_deref(), Some("service:write on artwork"));
        let new = "Permission denied: token with AccessorID '00000000-0000-0000-0000-000000000002' lacks permission \
                   'service:write' on \"artwork\"";
        assert_eq!(status(403, new).missing_rule().as_deref(), Some("service:write on artwork"));
        let bare = status(403, "ACL not found");
        assert_eq!(bare.missing_rule(), None);
        assert_eq!(bare.to_string(), "Consul denied PUT /v1/x: ACL not found");
        assert!(!bare.is_transient());
    }

    #[test]
    fn status_maps_messages_of_old_versions_to_not_found() {
        for words in [r#"Unknown check "x""#, r#"Unknown service {"x" {}}"#] {
            assert!(matches!(status(500, words), Error::NotFound { .. }), "{words}");
        }
        assert!(matches!(status(404, ""), Error::NotFound { .. }));
        assert!(status(500, "No cluster leader").is_transient());
        assert!(status(429, "slow down").is_transient());
        assert!(!status(400, r#"Request decode failed: json: unknown field "x""#).is_transient());
    }
}

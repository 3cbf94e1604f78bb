//! What may go wrong, sorted by what the caller may do about it.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// A request that did not succeed.
///
/// [`Unreachable`](Self::Unreachable) and [`Timeout`](Self::Timeout) leave open whether a write was done: it may still
/// land. Registering, deregistering and compare-and-set may simply be repeated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What the client was built from does not hold together: a URL, a token, a file of certificates. Never retry.
    #[error("{0}")]
    Configuration(String),
    /// No connection, or it broke before the answer was complete. Retry with a backoff.
    #[error("Consul at {address} cannot be reached: {}", Chain(source.as_ref()))]
    Unreachable {
        /// The base URL.
        address: String,
        /// What the network said.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// There was no answer within the limit. Retry with a backoff.
    #[error("Consul at {address} has not answered within {limit:?}")]
    Timeout {
        /// The base URL.
        address: String,
        /// How long was waited.
        limit: Duration,
    },
    /// One of the two does not trust the other. Passes only with other certificates, which may come by rotation: retry
    /// seldom, and tell somebody.
    #[error("no TLS with Consul at {address}: {}", Chain(source.as_ref()))]
    Tls {
        /// The base URL.
        address: String,
        /// What TLS said.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// 403: the token is unknown, or may not do this. A new token takes some time to be known everywhere, so it may
    /// pass; retry seldom, and show this text.
    #[error("Consul refuses {request}: {message}")]
    Permission {
        /// Method and path.
        request: String,
        /// Consul's own words.
        message: String,
    },
    /// There is no such service, check or session: 404, and what older versions answer with 500 instead. Do not
    /// retry; whoever registered it has to do so again.
    #[error("Consul does not know what {request} is about: {message}")]
    NotFound {
        /// Method and path.
        request: String,
        /// Consul's own words.
        message: String,
    },
    /// Any other status. 5xx and 429 may pass by themselves (no leader, a server that is away, a limit of rate).
    #[error("Consul answers {request} with {status}: {message}")]
    Status {
        /// Method and path.
        request: String,
        /// The status of HTTP.
        status: u16,
        /// Consul's own words.
        message: String,
    },
    /// The answer is not what this crate expects: perhaps something else listens there. Do not retry.
    #[error("what Consul answers to {request} makes no sense: {source}")]
    Undecodable {
        /// Method and path.
        request: String,
        /// Where it stops making sense.
        source: serde_json::Error,
    },
}

impl Error {
    /// Whether the same request may succeed later without anybody's help: unreachable, no answer in time, 5xx, 429.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }

    /// The rule that a token would need, such as `service:write on artwork`, where Consul names it. Most often it does
    /// for services, and for keys only in newer versions.
    pub fn missing_rule(&self) -> Option<String> {
        let Self::Permission { message, .. } = self else { return None };
        let (_, rule) = message.split_once("Missing ").or_else(|| message.split_once("lacks permission "))?;
        Some(rule.trim().replace(['\'', '"'], ""))
    }

    pub(crate) fn status(request: String, status: u16, body: &[u8]) -> Self {
        let message = String::from_utf8_lossy(body).trim().to_owned();
        // Older versions, 1.8 among them, say so in words alone.
        let unknown = ["Unknown service", "Unknown check"].iter().any(|words| message.starts_with(words))
            || message.contains("does not have associated TTL");
        match status {
            403 => Self::Permission { request, message },
            404 => Self::NotFound { request, message },
            500 if unknown => Self::NotFound { request, message },
            _ => Self::Status { request, status, message },
        }
    }

    /// A 404 that is an answer: there is none.
    pub(crate) fn none<T>(self) -> Result<Option<T>, Self> {
        if matches!(self, Self::NotFound { .. }) { Ok(None) } else { Err(self) }
    }
}

/// The causes of an error in one line: "connection refused" stands three causes deep.
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
    fn a_403_names_the_rule_in_old_words_and_in_new_ones() {
        let old = status(403, "Permission denied: Missing service:write on artwork");
        assert_eq!(old.missing_rule().as_deref(), Some("service:write on artwork"));
        let new = "Permission denied: token with AccessorID '00000000-0000-0000-0000-000000000002' lacks permission \
                   'service:write' on \"artwork\"";
        assert_eq!(status(403, new).missing_rule().as_deref(), Some("service:write on artwork"));
        let bare = status(403, "ACL not found");
        assert_eq!(bare.missing_rule(), None);
        assert_eq!(bare.to_string(), "Consul refuses PUT /v1/x: ACL not found");
        assert!(!bare.is_transient());
    }

    #[test]
    fn what_old_versions_say_in_words_is_not_found() {
        for words in [r#"Unknown check "x""#, r#"Unknown service {"x" {}}"#] {
            assert!(matches!(status(500, words), Error::NotFound { .. }), "{words}");
        }
        assert!(matches!(status(404, ""), Error::NotFound { .. }));
        assert!(status(500, "No cluster leader").is_transient());
        assert!(status(429, "slow down").is_transient());
        assert!(!status(400, r#"Request decode failed: json: unknown field "x""#).is_transient());
    }
}

//! What a client is made of.

use std::fmt;
#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderValue, Uri};

use crate::error::Error;

/// What a client is made of.
#[derive(Clone)]
pub struct Builder {
    url: String,
    token: Option<String>,
    pub(crate) datacenter: Option<String>,
    pub(crate) timeout: Duration,
    #[cfg(feature = "tls")]
    pub(crate) ca_file: Option<PathBuf>,
    #[cfg(feature = "tls")]
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// Without the token.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Builder {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            token: None,
            datacenter: None,
            timeout: Duration::from_secs(5),
            #[cfg(feature = "tls")]
            ca_file: None,
            #[cfg(feature = "tls")]
            identity: None,
        }
    }

    /// An ACL token; it is sent as `X-Consul-Token`, and appears in no log of this crate.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Whose catalog, health, keys and sessions are meant; without it, those of the agent's own datacenter.
    #[must_use]
    pub fn datacenter(mut self, datacenter: impl Into<String>) -> Self {
        self.datacenter = Some(datacenter.into());
        self
    }

    /// How long one request may take from its beginning to the last byte of its answer, connecting included; 5 seconds
    /// if nothing is said. What a blocking query waits comes on top.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// A PEM file with the certificates that an https agent is trusted by; without it, those that browsers trust. Read
    /// once, by [`build`](Self::build).
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// PEM files with our own certificate and its key, for an agent that verifies who asks.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn identity(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// What every request's path is added to.
    pub(crate) fn base(&self) -> Result<String, Error> {
        let bad = |why: &str| Error::Configuration(format!("`{}` cannot be Consul's address: {why}", self.url));
        let uri: Uri = self.url.parse().map_err(|error: http::uri::InvalidUri| bad(&error.to_string()))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") if cfg!(feature = "tls") => {}
            Some("https") => return Err(bad("https needs the feature `tls` of consul-api-client")),
            _ => return Err(bad("it begins neither with http:// nor with https://")),
        }
        // A user and a password would be sent nowhere.
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) || uri.query().is_some() {
            return Err(bad("it is to be a scheme, a host and a port"));
        }
        Ok(self.url.trim_end_matches('/').to_owned())
    }

    /// The token as a header, which is not shown.
    pub(crate) fn token_header(&self) -> Result<Option<HeaderValue>, Error> {
        self.token.as_deref().map(secret).transpose()
    }
}

fn secret(token: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(token.trim())
        .map_err(|_| Error::Configuration("the token holds characters that fit into no header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

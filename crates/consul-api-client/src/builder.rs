//! Collects and validates the settings of a client.

use std::fmt;
#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderValue, Uri};

use crate::error::Error;

/// The settings of a client.
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

/// Omits the token.
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

    /// Sets the ACL token, sent as `X-Consul-Token`. Default: none. `Debug` and errors omit it.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sets the datacenter for catalog, health, keys, sessions and intentions. Default: the agent's own.
    #[must_use]
    pub fn datacenter(mut self, datacenter: impl Into<String>) -> Self {
        self.datacenter = Some(datacenter.into());
        self
    }

    /// Sets the time limit of one request, from connecting to the last byte of the response. Default: 5 seconds. A
    /// blocking query adds its wait.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the PEM file of CA certificates that verify an https agent. Default: Mozilla's root certificates.
    /// [`build`](Self::build) reads the file once.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Sets the PEM files of the client certificate and its key, for an agent with `verify_incoming_https`. Default:
    /// none. [`build`](Self::build) reads the files once.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn identity(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// The validated URL without a trailing slash.
    pub(crate) fn base(&self) -> Result<String, Error> {
        let bad = |why: &str| Error::Configuration(format!("invalid Consul URL `{}`: {why}", self.url));
        let uri: Uri = self.url.parse().map_err(|error: http::uri::InvalidUri| bad(&error.to_string()))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") if cfg!(feature = "tls") => {}
            Some("https") => return Err(bad("https needs the feature `tls` of consul-api-client")),
            _ => return Err(bad("the scheme must be http or https")),
        }
        // The client would not send a user and a password.
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) || uri.query().is_some() {
            return Err(bad("expected http://host:port, without user, password and query"));
        }
        Ok(self.url.trim_end_matches('/').to_owned())
    }

    /// The token as a sensitive header, which `Debug` omits.
    pub(crate) fn token_header(&self) -> Result<Option<HeaderValue>, Error> {
        self.token.as_deref().map(secret).transpose()
    }
}

fn secret(token: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(token.trim()).map_err(|_| {
        Error::Configuration("the ACL token contains a character that HTTP headers do not allow".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

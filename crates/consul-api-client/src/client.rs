//! The entrance.

use std::fmt;
#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Uri};

use crate::agent::Agent;
use crate::catalog::Catalog;
use crate::error::Error;
use crate::health::Health;
use crate::kv::Kv;
use crate::session::Sessions;
use crate::status::Status;
use crate::transport::Transport;

/// A client of one agent. Clones share their connections and are cheap.
#[derive(Clone)]
pub struct Client {
    pub(crate) transport: Arc<Transport>,
}

/// What a client is made of.
#[derive(Clone)]
pub struct Builder {
    url: String,
    pub(crate) token: Option<String>,
    pub(crate) datacenter: Option<String>,
    pub(crate) timeout: Duration,
    #[cfg(feature = "tls")]
    pub(crate) ca_file: Option<PathBuf>,
    #[cfg(feature = "tls")]
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

impl Client {
    /// A client of the agent at `url`, such as `http://127.0.0.1:8500`, without a token. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`].
    pub fn new(url: impl Into<String>) -> Result<Self, Error> {
        Self::builder(url).build()
    }

    /// The same with more to say.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder {
            url: url.into(),
            token: None,
            datacenter: None,
            timeout: Duration::from_secs(5),
            #[cfg(feature = "tls")]
            ca_file: None,
            #[cfg(feature = "tls")]
            identity: None,
        }
    }

    /// What a service does with its own agent.
    pub fn agent(&self) -> Agent<'_> {
        Agent::new(&self.transport)
    }

    /// Finding healthy instances.
    pub fn health(&self) -> Health<'_> {
        Health::new(&self.transport)
    }

    /// What is registered anywhere, healthy or not.
    pub fn catalog(&self) -> Catalog<'_> {
        Catalog::new(&self.transport)
    }

    /// The state of the servers.
    pub fn status(&self) -> Status<'_> {
        Status::new(&self.transport)
    }

    /// Keys and values, and locks on them.
    pub fn kv(&self) -> Kv<'_> {
        Kv::new(&self.transport)
    }

    /// What holds locks.
    pub fn sessions(&self) -> Sessions<'_> {
        Sessions::new(&self.transport)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("address", &self.transport.address()).finish_non_exhaustive()
    }
}

/// Without the token.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Builder {
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

    /// Builds the client; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`]: a URL that is not `http://host:port` or `https://host:port`, the latter without the
    /// feature `tls`, a token that does not fit into a header, or a file that cannot be read.
    pub fn build(self) -> Result<Client, Error> {
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
        let token = self.token.as_deref().map(secret).transpose()?;
        let base = self.url.trim_end_matches('/').to_owned();
        Ok(Client { transport: Arc::new(Transport::new(base, token, &self)?) })
    }
}

fn secret(token: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(token.trim())
        .map_err(|_| Error::Configuration("the token holds characters that fit into no header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::Client;

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for url in ["127.0.0.1:8500", "ftp://a", "http://", "", "http://u:p@a:1", "http://a/?dc=x"] {
            let error = Client::new(url).unwrap_err().to_string();
            assert!(error.contains(url) && error.contains("cannot be Consul's address"), "{error}");
        }
        assert!(Client::new("http://127.0.0.1:8500/").is_ok());
        assert_eq!(Client::new("https://127.0.0.1:8501").is_ok(), cfg!(feature = "tls"));
    }

    #[test]
    fn a_token_is_not_shown() {
        let builder = Client::builder("http://a:1").token("s3cret");
        let shown = format!("{builder:?} {:?}", builder.clone().build().unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(Client::builder("http://a:1").token("a\nb").build().is_err());
    }
}

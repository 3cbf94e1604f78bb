//! The entry point: builds a client and hands out its endpoints.

use std::fmt;
use std::sync::Arc;

use crate::agent::Agent;
use crate::builder::Builder;
use crate::catalog::Catalog;
use crate::error::Error;
use crate::health::Health;
use crate::intentions::Intentions;
use crate::kv::Kv;
use crate::session::Sessions;
use crate::status::Status;
use crate::transport::Transport;

/// A client of one agent. Clones are cheap and share connections.
#[derive(Clone)]
pub struct Client {
    transport: Arc<Transport>,
}

impl Client {
    /// Builds a client of the agent at `url`, such as `http://127.0.0.1:8500`, with default settings. Sends nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`]: `url` is invalid.
    pub fn new(url: impl Into<String>) -> Result<Self, Error> {
        Self::builder(url).build()
    }

    /// Starts a client of the agent at `url` with settings of its own.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    /// Registers services with the agent and reports on checks.
    pub fn agent(&self) -> Agent<'_> {
        Agent::new(&self.transport)
    }

    /// Finds healthy instances.
    pub fn health(&self) -> Health<'_> {
        Health::new(&self.transport)
    }

    /// Lists all registrations, regardless of health.
    pub fn catalog(&self) -> Catalog<'_> {
        Catalog::new(&self.transport)
    }

    /// Reads the state of the servers.
    pub fn status(&self) -> Status<'_> {
        Status::new(&self.transport)
    }

    /// Reads, writes and locks keys.
    pub fn kv(&self) -> Kv<'_> {
        Kv::new(&self.transport)
    }

    /// Reads which services may call which.
    pub fn intentions(&self) -> Intentions<'_> {
        Intentions::new(&self.transport)
    }

    /// Manages the sessions that hold locks.
    pub fn sessions(&self) -> Sessions<'_> {
        Sessions::new(&self.transport)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("address", &self.transport.address()).finish_non_exhaustive()
    }
}

impl Builder {
    /// Builds the client. Sends nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`]: the URL is neither `http://host:port` nor `https://host:port` (the latter needs the
    /// feature `tls`), the token is not a valid header value, or a certificate file is invalid.
    pub fn build(self) -> Result<Client, Error> {
        Ok(Client { transport: Arc::new(Transport::new(&self)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::Client;

    #[test]
    fn build_rejects_an_invalid_url_with_a_reason() {
        for url in ["127.0.0.1:8500", "ftp://a", "http://", "", "http://u:p@a:1", "http://a/?dc=x"] {
            let error = Client::new(url).unwrap_err().to_string();
            assert!(error.contains(url) && error.contains("invalid Consul URL"), "{error}");
        }
        assert!(Client::new("http://127.0.0.1:8500/").is_ok());
        assert_eq!(Client::new("https://127.0.0.1:8501").is_ok(), cfg!(feature = "tls"));
    }

    #[test]
    fn debug_output_omits_the_token() {
        let builder = Client::builder("http://a:1").token("s3cret");
        let shown = format!("{builder:?} {:?}", builder.clone().build().unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(Client::builder("http://a:1").token("a\nb").build().is_err());
    }
}

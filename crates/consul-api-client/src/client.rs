//! The entrance.

use std::fmt;
use std::sync::Arc;

use crate::agent::Agent;
use crate::builder::Builder;
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
    transport: Arc<Transport>,
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
        Builder::new(url.into())
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

impl Builder {
    /// Builds the client; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`]: a URL that is not `http://host:port` or `https://host:port`, the latter without the
    /// feature `tls`, a token that does not fit into a header, or a file that cannot be read.
    pub fn build(self) -> Result<Client, Error> {
        Ok(Client { transport: Arc::new(Transport::new(&self)?) })
    }
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

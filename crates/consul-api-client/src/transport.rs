//! Sends one request and returns its response within a time limit.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;

use crate::blocking::{Blocking, Indexed, longest};
use crate::builder::Builder;
use crate::error::Error;
use crate::wire::{encode, go_duration};

#[cfg(not(feature = "tls"))]
type Connector = HttpConnector;
#[cfg(feature = "tls")]
type Connector = crate::tls::Connector;

/// The largest body of a response, in bytes: more than any answer of Consul has that a mesh asks for.
const LARGEST: usize = 64 << 20;

/// The most idle connections that are kept. An agent serves 200 of one address.
const MOST_IDLE: usize = 8;

/// A connection pool to one agent.
pub(crate) struct Transport {
    pool: Pool<Connector, Full<Bytes>>,
    base: String,
    token: Option<HeaderValue>,
    datacenter: Option<String>,
    timeout: Duration,
}

/// A request. The query stays separate from the path, because errors must not show it.
pub(crate) struct Request {
    method: Method,
    path: String,
    query: String,
    body: Bytes,
    wait: Duration,
}

/// A response.
pub(crate) struct Response {
    request: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Request {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn put(path: impl Into<String>) -> Self {
        Self::new(Method::PUT, path)
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: String::new(), body: Bytes::new(), wait: Duration::ZERO }
    }

    pub(crate) fn parameter(mut self, name: &str, value: &str) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(name);
        self.query.push('=');
        self.query.push_str(&encode(value));
        self
    }

    pub(crate) fn optional_parameter(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.parameter(name, value),
            None => self,
        }
    }

    /// Makes the agent hold the request, and adds that time to the limit.
    pub(crate) fn wait(mut self, wait: Duration) -> Self {
        // Consul reads zero as its default of minutes.
        let wait = wait.max(Duration::from_millis(1));
        self.wait = longest(wait);
        self.parameter("wait", &go_duration(wait))
    }

    pub(crate) fn blocking(self, blocking: Option<Blocking>) -> Self {
        match blocking {
            // The agent does not hold a request with index 0, so the limit needs no addition.
            Some(Blocking { index: 0, .. }) | None => self,
            Some(Blocking { index, wait }) => self.parameter("index", &index.to_string()).wait(wait),
        }
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn json(self, body: &impl serde::Serialize) -> Self {
        self.body(serde_json::to_vec(body).expect("structs of strings and numbers serialize to JSON"))
    }
}

impl Transport {
    pub(crate) fn new(builder: &Builder) -> Result<Self, Error> {
        let (base, token) = (builder.base()?, builder.token_header()?);
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        #[cfg(feature = "tls")]
        let connector = crate::tls::connector(connector, builder)?;
        let mut pool = Pool::builder(TokioExecutor::new());
        pool.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(60)).pool_max_idle_per_host(MOST_IDLE);
        let pool = pool.build(connector);
        Ok(Self { pool, base, token, datacenter: builder.datacenter.clone(), timeout: builder.timeout })
    }

    pub(crate) fn datacenter(&self) -> Option<&str> {
        self.datacenter.as_deref()
    }

    pub(crate) fn address(&self) -> &str {
        &self.base
    }

    /// Sends a request to the configured datacenter.
    pub(crate) async fn send_dc(&self, request: Request) -> Result<Response, Error> {
        self.send(request.optional_parameter("dc", self.datacenter.as_deref())).await
    }

    pub(crate) async fn send(&self, request: Request) -> Result<Response, Error> {
        self.exchange(request).await.and_then(|(status, response)| {
            if is_success(status) { Ok(response) } else { Err(Error::status(response.request, status, &response.body)) }
        })
    }

    /// Returns the response regardless of its status.
    pub(crate) async fn exchange(&self, request: Request) -> Result<(u16, Response), Error> {
        let limit = self.timeout + request.wait;
        let name = format!("{} {}", request.method, request.path);
        let uri = format!("{}{}{}", self.base, request.path, request.query);
        let mut outgoing = http::Request::builder().method(request.method).uri(uri);
        if let Some(token) = &self.token {
            outgoing = outgoing.header("x-consul-token", token);
        }
        let outgoing = outgoing
            .body(Full::new(request.body))
            .map_err(|error| Error::Configuration(format!("invalid request {name}: {error}")))?;
        let exchange = async {
            let response = self.pool.request(outgoing).await.map_err(|error| self.connection_error(error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, LARGEST).collect().await.map_err(|error| self.body_error(&name, error))?;
            let body = body.to_bytes();
            Ok((head.status.as_u16(), Response { request: name, headers: head.headers, body }))
        };
        let timeout = |_| Error::Timeout { address: self.base.clone(), limit };
        tokio::time::timeout(limit, exchange).await.map_err(timeout)?
    }

    fn body_error(&self, request: &str, error: Box<dyn StdError + Send + Sync>) -> Error {
        if error.is::<LengthLimitError>() {
            return Error::TooLarge { request: request.to_owned(), limit: LARGEST };
        }
        self.connection_error(error)
    }

    fn connection_error(&self, error: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        let (address, source) = (self.base.clone(), error.into());
        #[cfg(feature = "tls")]
        if crate::tls::caused(source.as_ref()) {
            return Error::Tls { address, source };
        }
        Error::Unreachable { address, source }
    }
}

pub(crate) fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

impl Response {
    pub(crate) fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|source| Error::Undecodable { request: self.request, source })
    }

    /// Method and path.
    pub(crate) fn request(&self) -> &str {
        &self.request
    }

    pub(crate) fn indexed<T: DeserializeOwned>(self) -> Result<Indexed<T>, Error> {
        Ok(Indexed { index: self.index(), value: self.json()? })
    }

    pub(crate) fn index(&self) -> u64 {
        let index = self.headers.get("x-consul-index").and_then(|value| value.to_str().ok());
        index.and_then(|index| index.parse().ok()).unwrap_or(0)
    }

    /// Turns an unsuccessful response into an error.
    pub(crate) fn into_error(self, status: u16) -> Error {
        Error::status(self.request, status, &self.body)
    }
}

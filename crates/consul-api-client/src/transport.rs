//! One request, one answer, within a limit.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full};
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

/// The connections to one agent.
pub(crate) struct Transport {
    pool: Pool<Connector, Full<Bytes>>,
    base: String,
    token: Option<HeaderValue>,
    datacenter: Option<String>,
    timeout: Duration,
}

/// What is asked. The query is kept apart: it may hold what does not belong into an error's text.
pub(crate) struct Call {
    method: Method,
    path: String,
    query: String,
    body: Bytes,
    wait: Duration,
}

/// An answer that is a success.
pub(crate) struct Answer {
    request: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
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

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(name);
        self.query.push('=');
        self.query.push_str(&encode(value));
        self
    }

    pub(crate) fn with_some(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Holds for a time; everything that does is given that time on top of its limit.
    pub(crate) fn waiting(mut self, wait: Duration) -> Self {
        // Zero would mean Consul's default of minutes.
        let wait = wait.max(Duration::from_millis(1));
        self.wait = longest(wait);
        self.with("wait", &go_duration(wait))
    }

    pub(crate) fn blocking(self, blocking: Option<Blocking>) -> Self {
        match blocking {
            // With an index of 0 the agent does not wait, so neither does the client.
            Some(Blocking { index: 0, .. }) | None => self,
            Some(Blocking { index, wait }) => self.with("index", &index.to_string()).waiting(wait),
        }
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn json(self, body: &impl serde::Serialize) -> Self {
        self.body(serde_json::to_vec(body).expect("structs of strings and numbers can be written as JSON"))
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
        pool.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(60));
        let pool = pool.build(connector);
        Ok(Self { pool, base, token, datacenter: builder.datacenter.clone(), timeout: builder.timeout })
    }

    pub(crate) fn datacenter(&self) -> Option<&str> {
        self.datacenter.as_deref()
    }

    pub(crate) fn address(&self) -> &str {
        &self.base
    }

    /// Asks for what every datacenter has.
    pub(crate) async fn send_dc(&self, call: Call) -> Result<Answer, Error> {
        self.send(call.with_some("dc", self.datacenter.as_deref())).await
    }

    pub(crate) async fn send(&self, call: Call) -> Result<Answer, Error> {
        self.exchange(call).await.and_then(|(status, answer)| {
            if is_success(status) { Ok(answer) } else { Err(Error::status(answer.request, status, &answer.body)) }
        })
    }

    /// The answer whatever its status: a missing key's 404 is one that can be waited behind.
    pub(crate) async fn exchange(&self, call: Call) -> Result<(u16, Answer), Error> {
        let limit = self.timeout + call.wait;
        let request = format!("{} {}", call.method, call.path);
        let mut ask = Request::builder().method(call.method).uri(format!("{}{}{}", self.base, call.path, call.query));
        if let Some(token) = &self.token {
            ask = ask.header("x-consul-token", token);
        }
        let ask =
            ask.body(Full::new(call.body)).map_err(|error| Error::Configuration(format!("{request}: {error}")))?;
        let exchange = async {
            let answer = self.pool.request(ask).await.map_err(|error| self.broken(error))?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| self.broken(error))?.to_bytes();
            Ok((head.status.as_u16(), Answer { request, headers: head.headers, body }))
        };
        let timeout = |_| Error::Timeout { address: self.base.clone(), limit };
        tokio::time::timeout(limit, exchange).await.map_err(timeout)?
    }

    fn broken(&self, error: impl StdError + Send + Sync + 'static) -> Error {
        let (address, source) = (self.base.clone(), Box::new(error));
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

impl Answer {
    pub(crate) fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|source| Error::Undecodable { request: self.request, source })
    }

    pub(crate) fn indexed<T: DeserializeOwned>(self) -> Result<Indexed<T>, Error> {
        Ok(Indexed { index: self.index(), value: self.json()? })
    }

    pub(crate) fn index(&self) -> u64 {
        let index = self.headers.get("x-consul-index").and_then(|value| value.to_str().ok());
        index.and_then(|index| index.parse().ok()).unwrap_or(0)
    }

    /// What failed, if this 404 is to be an error after all.
    pub(crate) fn into_error(self, status: u16) -> Error {
        Error::status(self.request, status, &self.body)
    }
}

//! What is asked of the page: its files, its stream, and JSON.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, LOCATION, SET_COOKIE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::answer::{self, failure, refusal};
use crate::ask::{self, Calls, Logs};
use crate::events;
use crate::files::Files;
use crate::guard::Guard;
use crate::hub::Hub;
use crate::settings::Mode;
use crate::trial;

/// The largest body that is read, in bytes.
const LARGEST: usize = 256 << 10;
/// The requests with a body that are answered at once.
const BODIES: usize = 16;
/// The limit for its arrival.
const ARRIVAL: Duration = Duration::from_secs(10);

/// A body that is sent to the page.
pub(crate) trait Sent:
    http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send
{
}

impl<B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send> Sent for B {}

/// Answers requests below `/dashboard/`.
pub(crate) struct Routes {
    pub(crate) hub: Arc<Hub>,
    pub(crate) guard: Guard,
    pub(crate) files: Files,
    pub(crate) draining: CancellationToken,
    /// Permits for requests with a body.
    pub(crate) bodies: Semaphore,
}

impl Routes {
    pub(crate) fn new(hub: Arc<Hub>, guard: Guard, draining: CancellationToken) -> Self {
        Self { hub, guard, files: Files::new(), draining, bodies: Semaphore::new(BODIES) }
    }
}

impl Routes {
    /// Answers a request whose path begins with `/dashboard/`.
    pub(crate) async fn answer<B: Sent>(&self, head: &Parts, body: B) -> Response<Body> {
        if let Some(refused) = self.guard.refuse_site(head) {
            return refused;
        }
        let path = head.uri.path().strip_prefix("/dashboard/").unwrap_or_default();
        if path == "open" && head.method == Method::GET {
            return self.open(head);
        }
        if let Some(refused) = self.guard.refuse_reader(&head.headers) {
            return refused;
        }
        match (&head.method, path) {
            (&Method::POST, "link") => return self.link(),
            (&Method::POST, "api/call" | "api/operations") => return self.change(path, head, body).await,
            (_, "link" | "api/call" | "api/operations") => return not_allowed("POST"),
            (&Method::GET | &Method::HEAD, _) => {}
            _ => return not_allowed("GET, HEAD"),
        }
        if path == "events" {
            return events::answer(&self.hub, &self.draining);
        }
        match path.strip_prefix("api/") {
            Some(asked) => self.read(asked, head.uri.query().unwrap_or_default()).await,
            None => self.files.answer(path, head).unwrap_or_else(not_found),
        }
    }

    async fn read(&self, path: &str, query: &str) -> Response<Body> {
        let query = match Query::read(query) {
            Ok(query) => query,
            Err(status) => return failure(&status),
        };
        let hub = &self.hub;
        let answered = match path.split_once('/') {
            None if path == "calls" => match query.calls() {
                Ok(calls) => ask::calls(hub, &calls).await,
                Err(status) => Err(status),
            },
            None if path == "logs" => match query.logs() {
                Ok(logs) => ask::logs(hub, &logs).await,
                Err(status) => Err(status),
            },
            None if path == "contracts" => Ok(ask::contracts(hub).await),
            Some(("traces", trace)) => ask::trace(hub, trace).await,
            Some(("processes", rest)) => {
                let Some(id) = rest.strip_suffix("/configuration") else { return not_found() };
                match transcode::decode_percent(id) {
                    Ok(id) => ask::configuration(hub, &id).await,
                    Err(why) => Err(Status::invalid_argument(why)),
                }
            }
            _ => return not_found(),
        };
        match answered {
            Ok(json) => answer::json(&json),
            Err(status) => failure(&status),
        }
    }

    /// Answers a request that changes something.
    async fn change<B: Sent>(&self, path: &str, head: &Parts, body: B) -> Response<Body> {
        if let Some(refused) = Guard::refuse_form(&head.headers) {
            return refused;
        }
        if self.hub.mode() != Mode::Call {
            let message = "the page only shows: dashboard.mode is read";
            return refusal(StatusCode::FORBIDDEN, Code::PermissionDenied, "READ_ONLY", message);
        }
        let Ok(_permit) = self.bodies.try_acquire() else {
            let message = "too many requests at once: try again";
            return refusal(StatusCode::SERVICE_UNAVAILABLE, Code::ResourceExhausted, "OVERLOADED", message);
        };
        let body = match timeout(ARRIVAL, Limited::new(body, LARGEST).collect()).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let message = "the body has more than 256 KiB";
                return refusal(StatusCode::PAYLOAD_TOO_LARGE, Code::InvalidArgument, "BODY_TOO_LARGE", message);
            }
            Ok(Err(_)) => return failure(&Status::invalid_argument("the body broke off")),
            Err(_) => {
                let message = "the body did not arrive within 10 s";
                return refusal(StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded, "BODY_TOO_SLOW", message);
            }
        };
        let Ok(asked) = serde_json::from_slice::<Value>(&body.to_bytes()) else {
            return failure(&Status::invalid_argument("the body is no JSON"));
        };
        let text = |name: &str| asked[name].as_str().unwrap_or_default();
        let changed = if path == "api/call" {
            let empty = json!({});
            let request = asked.get("request").unwrap_or(&empty);
            trial::call(&self.hub, text("method"), request, asked["confirmed"] == true).await
        } else {
            trial::operation(&self.hub, text("name"), text("action")).await
        };
        changed.map_or_else(|status| failure(&status), |json| answer::json(&json))
    }

    /// Opens the page for the reader of a link that is good once.
    fn open(&self, head: &Parts) -> Response<Body> {
        let query = Query::read(head.uri.query().unwrap_or_default());
        let cookie = query.ok().and_then(|query| self.guard.open(query.one("key")));
        let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok()) else {
            let message =
                "this link was used, or 64 later ones exist: POST /dashboard/link with the token makes another one";
            return refusal(StatusCode::UNAUTHORIZED, Code::Unauthenticated, "LINK_USED", message);
        };
        let mut response = redirect("/dashboard/");
        response.headers_mut().insert(SET_COOKIE, cookie);
        response
    }

    fn link(&self) -> Response<Body> {
        match self.guard.link() {
            Some(path) => answer::json(&json!({"path": path})),
            None => not_found(),
        }
    }
}

/// Sends a reader to the page.
pub(crate) fn redirect(to: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static(to));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn not_found() -> Response<Body> {
    refusal(StatusCode::NOT_FOUND, Code::NotFound, "NOT_FOUND", "the page has no such address")
}

fn not_allowed(allowed: &'static str) -> Response<Body> {
    let message = format!("only {allowed}");
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, "METHOD_NOT_ALLOWED", &message);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The query of a request.
struct Query(Vec<(String, String)>);

impl Query {
    fn read(text: &str) -> Result<Self, Status> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded =
                |text: &str| transcode::decode_percent(&text.replace('+', "%20")).map(std::borrow::Cow::into_owned);
            Ok((decoded(name)?, decoded(value)?))
        });
        pairs.collect::<Result<_, &str>>().map(Self).map_err(|why| Status::invalid_argument(format!("the query {why}")))
    }

    /// The value of a parameter; empty if it is not there.
    fn one(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    fn calls(&self) -> Result<Calls<'_>, Status> {
        let slowest_first = match self.one("order") {
            "" | "newest" => false,
            "slowest" => true,
            _ => return Err(Status::invalid_argument("`order` is newest or slowest")),
        };
        let (problems, method) = (self.one("problems") == "1", self.one("method"));
        Ok(Calls { problems, method, slowest_first, limit: self.limit()? })
    }

    fn limit(&self) -> Result<i32, Status> {
        let limit = self.one("limit");
        let number = if limit.is_empty() { Some(200) } else { limit.parse().ok() };
        let number = number.filter(|number| (1..=ask::MOST).contains(number));
        number.ok_or_else(|| Status::invalid_argument(format!("`limit` is a number from 1 to {}", ask::MOST)))
    }

    fn logs(&self) -> Result<Logs<'_>, Status> {
        let after = self.0.iter().filter(|(name, _)| name == "after").map(|(_, value)| {
            let (process, number) = value.rsplit_once('~')?;
            Some((process, number.parse().ok()?))
        });
        let after: Option<BTreeMap<_, _>> = after.collect();
        let after = after.ok_or_else(|| Status::invalid_argument("`after` is PROCESS~NUMBER"))?;
        Ok(Logs { process: self.one("process"), level: self.one("level"), trace: self.one("trace"), after })
    }
}

//! The app: what answers for the service, behind the layers.
//!
//! Guarantees:
//! - Bodies pass as they arrive, and are not decoded.
//! - A call is sent once. Its caller repeats it where the contract allows that, also at another instance.
//! - Only methods of the service's own contracts, and of those that every service may have, reach the app.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, TE};
use http::{Request, Response, Uri};
use http_body::{Frame, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use mesh_rpc::auth::Passports;
use mesh_rpc::call::body::PassedThrough;
use mesh_rpc::call::error::{APP_UNREACHABLE, DOMAIN, status, unavailable};
use mesh_rpc::call::{Call, Handler, Method, Protocol as Of, handler, plain};
use mesh_rpc::client::Direct;
use mesh_rpc::client::connections::Unanswered;
use mesh_rpc::client::failure::{drop_malformed_details, from_http};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::headers;
use crate::settings::Protocol;

/// UNAVAILABLE: the connection to the app broke before its answer was complete. It may have done the work.
const APP_LOST: &str = "APP_LOST";
/// The invited delay of a retry.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// How long an idle connection to an HTTP/1.1 app is kept. Many servers close theirs after 60 s.
const IDLE: Duration = Duration::from_secs(30);

/// The app beside this process.
pub(crate) struct App {
    service: &'static str,
    /// Vouches for users, where the app calls others for them.
    passports: Option<Passports>,
    client: AppClient,
}

enum AppClient {
    Grpc(Arc<Direct>),
    Http1(Box<Client<HttpConnector, Body>>, SocketAddr),
}

impl App {
    pub(crate) fn new(
        service: &'static str,
        protocol: Protocol,
        address: SocketAddr,
        direct: Arc<Direct>,
        passports: Option<Passports>,
    ) -> Self {
        let client = match protocol {
            Protocol::Grpc => AppClient::Grpc(direct),
            Protocol::Http1 => AppClient::Http1(Box::new(http1()), address),
        };
        Self { service, passports, client }
    }

    /// Answers calls, and HTTP requests on the way of a call.
    pub(crate) fn answers(self) -> Handler {
        let app = Arc::new(self);
        handler(move |call| {
            let app = Arc::clone(&app);
            async move { app.answer(call).await.unwrap_or_else(Status::into_http) }
        })
    }

    async fn answer(&self, mut call: Call) -> Result<Response<Body>, Status> {
        let passport = self.passports.as_ref().and_then(|passports| passports.for_app(&call.context.caller));
        match (&self.client, call.method.protocol) {
            (AppClient::Grpc(direct), Of::Grpc) if self.serves(call.method) => {
                headers::for_an_app(call.request.headers_mut(), &call.context, passport);
                call.request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
                grpc(direct, call.request).await
            }
            (AppClient::Http1(client, address), Of::Http) => {
                // A name of a service is a header.
                let host = HeaderValue::from_str(self.service).map_err(|error| Status::internal(error.to_string()))?;
                headers::for_http1(call.request.headers_mut(), host);
                headers::for_an_app(call.request.headers_mut(), &call.context, passport);
                plain_http(client, *address, call.request).await
            }
            _ => Err(self.unknown(&call)),
        }
    }

    fn serves(&self, method: &Method) -> bool {
        method.package() == self.service || method.is_shared()
    }

    fn unknown(&self, call: &Call) -> Status {
        let name = call.request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        let message = format!("{} does not serve `{name}`", self.service);
        status(Code::Unimplemented, DOMAIN, "UNKNOWN_SERVICE", message)
    }
}

async fn grpc(direct: &Direct, request: Request<Body>) -> Result<Response<Body>, Status> {
    let mut response = direct.send(request).await.map_err(unanswered)?;
    if let Some(status) = from_http(&response) {
        return Err(status);
    }
    drop_malformed_details(response.headers_mut());
    headers::of_an_app(response.headers_mut());
    Ok(response.map(|body| Body::new(OfApp(body))))
}

fn http1() -> Client<HttpConnector, Body> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).set_host(false);
    builder.build(connector)
}

async fn plain_http(
    client: &Client<HttpConnector, Body>,
    address: SocketAddr,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri: Result<Uri, _> = format!("http://{address}{path}").parse();
    *request.uri_mut() = uri.map_err(|error| Status::invalid_argument(error.to_string()))?;
    *request.version_mut() = http::Version::HTTP_11;
    let mut response = client
        .request(request.map(|body| Body::new(PassedThrough::of(body))))
        .await
        .map_err(|error| if error.is_connect() { unreachable(Arc::new(error)) } else { lost(Arc::new(error)) })?;
    headers::end_to_end(response.headers_mut());
    headers::of_an_app(response.headers_mut());
    *response.version_mut() = http::Version::HTTP_2;
    Ok(plain::ended(response.map(OfApp)).map(Body::new))
}

fn unanswered(why: Unanswered) -> Status {
    match why {
        Unanswered::Unreachable(cause) | Unanswered::Foreign(cause) | Unanswered::Refused(cause) => unreachable(cause),
        Unanswered::Lost(cause) => lost(cause),
    }
}

type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// UNAVAILABLE, `APP_UNREACHABLE`: nothing was sent. Any call may be retried.
fn unreachable(cause: Cause) -> Status {
    let mut status = unavailable(APP_UNREACHABLE, "the app beside the sidecar cannot be reached", RETRY_DELAY);
    status.set_source(cause);
    status
}

/// UNAVAILABLE, `APP_LOST`. Only an idempotent call may be retried.
fn lost(cause: Cause) -> Status {
    let mut status =
        unavailable(APP_LOST, "the app beside the sidecar broke off before its answer was complete", RETRY_DELAY);
    status.set_source(cause);
    status
}

/// A response body of the app, whose trailers say nothing that only a sidecar may say.
struct OfApp<B>(B);

impl<B: http_body::Body<Data = Bytes, Error = hyper::Error> + Unpin> http_body::Body for OfApp<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = task::ready!(Pin::new(&mut self.0).poll_frame(cx));
        Poll::Ready(polled.map(|frame| match frame {
            Ok(mut frame) => {
                if let Some(trailers) = frame.trailers_mut() {
                    drop_malformed_details(trailers);
                    headers::of_an_app(trailers);
                }
                Ok(frame)
            }
            Err(error) => Err(lost(Arc::new(error))),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

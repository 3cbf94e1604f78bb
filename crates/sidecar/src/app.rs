//! The app: what answers for the service, behind the layers.
//!
//! Guarantees:
//! - Bodies pass as they arrive, and are not decoded.
//! - A call is sent once. Its caller repeats it where the contract allows that, also at another instance.
//! - Only methods of the service's own contracts, and of those that every service may have, reach the app.

use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderValue, TE, TRANSFER_ENCODING};
use http::{Request, Response, Uri};
use http_body::{Body as _, Frame, SizeHint};
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
/// How long an idle connection to an HTTP/1.1 app is kept: less than any server keeps it. A request that meets the end
/// of its connection fails.
const IDLE: Duration = Duration::from_secs(1);

/// The app beside this process.
pub(crate) struct App {
    service: &'static str,
    /// Vouches for users, where the app calls others for them.
    passports: Option<Passports>,
    client: AppClient,
}

enum AppClient {
    Grpc(Box<Direct>),
    Http1(Box<Client<HttpConnector, Body>>, SocketAddr),
}

impl App {
    pub(crate) fn new(
        service: &'static str,
        protocol: Protocol,
        address: SocketAddr,
        passports: Option<Passports>,
    ) -> Self {
        let client = match protocol {
            Protocol::Grpc => AppClient::Grpc(Box::new(Direct::to(address))),
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
    let (request, refused) = noted(request);
    let mut response = direct.send(request).await.map_err(|why| refused.instead_of(unanswered(why)))?;
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
    let uri: Option<Uri> = path.starts_with('/').then(|| format!("http://{address}{path}").parse().ok()).flatten();
    *request.uri_mut() = uri.ok_or_else(|| Status::invalid_argument("the target of a request is a path"))?;
    // Without it, a read would lose a body of unknown length.
    if !request.body().is_end_stream() && !request.headers().contains_key(CONTENT_LENGTH) {
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    *request.version_mut() = http::Version::HTTP_11;
    let (request, refused) = noted(request);
    let answered = client.request(request.map(|body| Body::new(PassedThrough::of(body)))).await;
    let mut response = answered.map_err(|error| {
        refused.instead_of(if error.is_connect() { unreachable(Arc::new(error)) } else { lost(Arc::new(error)) })
    })?;
    let codings = response.headers().get_all(TRANSFER_ENCODING).iter();
    let coded = codings.fold(None, |_, coding| Some(coding.as_bytes().eq_ignore_ascii_case(b"chunked")));
    if response.status().is_informational() || coded == Some(false) {
        return Err(lost(Arc::new(std::io::Error::other(
            "the answer is none to this request, or has an unknown coding",
        ))));
    }
    if coded.is_some() {
        // The chunks are the length (RFC 9112, 6.3).
        response.headers_mut().remove(CONTENT_LENGTH);
    }
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

type Cause = Arc<dyn Error + Send + Sync>;

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

/// A request whose body notes why it broke off: HTTP/2 only resets the stream, and the app is not at fault.
fn noted(request: Request<Body>) -> (Request<Body>, Refused) {
    let refused = Refused::default();
    let noting = refused.clone();
    (request.map(|body| Body::new(Noted { body, refused: noting })), refused)
}

/// Why the body of a request broke off: a layer has refused the rest, or the caller has left.
#[derive(Clone, Default)]
struct Refused(Arc<OnceLock<Status>>);

impl Refused {
    /// The failure of a call: that of its request, if it has one.
    fn instead_of(&self, failed: Status) -> Status {
        match self.0.get() {
            Some(status) if status.source().is_some() => Status::cancelled("the caller broke its request off"),
            Some(status) => status.clone(),
            None => failed,
        }
    }
}

struct Noted {
    body: Body,
    refused: Refused,
}

impl http_body::Body for Noted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Err(status)) = &polled {
            let _ = self.refused.0.set(status.clone());
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response body of the app, whose trailers say nothing that only a sidecar may say.
struct OfApp<B>(B);

impl<B> http_body::Body for OfApp<B>
where
    B: http_body::Body<Data = Bytes, Error: Error + Send + Sync + 'static> + Unpin,
{
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

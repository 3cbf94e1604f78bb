//! The edge: what is asked of it, in which order.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::VARY;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use mesh_rpc::auth::Gate;
use mesh_rpc::call::error::{DOMAIN, status};
use mesh_rpc::call::{Access, Answering, Call, Connection, Handler, MESH_CONSISTENCY, Method, Methods};
use mesh_rpc::server::{self, Front, Tls};
use mesh_rpc::telemetry::Metrics;
use mesh_runtime::Tasks;
use tonic::body::Body;
use tonic::{Code, Status};
use transcode::{FromHeader, Matched, Miss};

use crate::body::{ARRIVAL, Reader};
use crate::client::{self, Network};
use crate::contract::{Contract, Route};
use crate::guard::{Guard, check_token};
use crate::memory::{Arriving, BoxError, Leaving, Memory};
use crate::pages::Pages;
use crate::rate::Limiter;
use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::shares::Share;
use crate::web::Web;
use crate::{call, cors, forward, grpc_web, headers, ndjson, request, sse, unary, websocket};

/// How long a client that resumes waits for the head of its answer. A stream whose end it has seen ends in this time.
const RESUMING: Duration = Duration::from_millis(250);

/// Answers HTTP requests that are no gRPC. Cheap to clone.
#[derive(Clone)]
pub struct Edge(Arc<Inner>);

/// Where a request comes from.
struct Caller {
    connection: Connection,
    client: IpAddr,
}

struct Inner {
    layers: Handler,
    /// Asks who calls before a body is read. The layers ask again.
    gate: Gate,
    contract: Arc<Contract>,
    pages: Pages,
    /// The page of the project's own, if it has one.
    web: Option<Web>,
    guard: Guard,
    /// The largest body that is read, in bytes.
    max_body: usize,
    memory: Memory,
    limiter: Limiter,
    trusted_proxies: Vec<Network>,
    deadline: Duration,
    tls: Option<Tls>,
    metrics: Metrics,
    /// Sockets, which a drain waits for.
    tasks: Tasks,
}

impl Edge {
    /// An edge at `listen`, before `layers` and their `gate`, for the gRPC services whose full names are in `served`.
    /// Each of `sets` is an encoded `google.protobuf.FileDescriptorSet` with their contracts.
    ///
    /// # Errors
    ///
    /// The contracts have rules that cannot be served, or `edge.web` has a path of theirs. The message is one line.
    pub fn new(
        settings: &Settings,
        listen: SocketAddr,
        layers: Handler,
        gate: Gate,
        (sets, methods, served): (&[&[u8]], &Methods, &BTreeSet<&str>),
        metrics: Metrics,
        tasks: Tasks,
    ) -> anyhow::Result<Self> {
        let contract = Contract::read(sets, served, methods)?;
        let web = settings.web.as_ref().map(|folder| Web::new(folder, contract.paths())).transpose()?;
        let at = web.as_ref().map(Web::address);
        Ok(Self(Arc::new(Inner {
            layers,
            gate,
            pages: Pages::new(contract.openapi(), settings.docs.clone(), at.as_deref(), settings.listen.is_some()),
            web,
            contract: Arc::new(contract),
            guard: Guard::new(listen, settings.tls.is_some(), &settings.hosts, &settings.cors_origins),
            max_body: usize::try_from(settings.max_body).unwrap_or(usize::MAX),
            memory: Memory::default(),
            limiter: Limiter::new(settings.rate, settings.streams_per_client),
            trusted_proxies: settings.trusted_proxies.clone(),
            deadline: settings.deadline,
            tls: settings.tls.clone(),
            metrics,
            tasks,
        })))
    }

    /// A command that makes a call at `address`: `method` is `package.Service/Method`, `request` is JSON. `header` goes
    /// in front of its other arguments. `None`: the method is not public, or its path needs a field.
    pub fn curl(&self, address: SocketAddr, method: &str, request: &str, header: &str) -> Option<String> {
        let (arguments, path) = self.0.contract.curl(&format!("/{method}"), request)?;
        // The shell reads `?` and `&` otherwise.
        let quote = if path.contains('?') { "'" } else { "" };
        Some(format!("{}{header} {arguments}{quote}{}{path}{quote}", self.curl_trusting(), self.url(address)))
    }

    /// The methods that read what has no name, with their paths: for a process without examples of its own.
    pub fn reads(&self) -> impl Iterator<Item = (&'static Method, &str)> {
        self.0.contract.reads()
    }

    /// A command that reads a path.
    pub fn get(&self, address: SocketAddr, path: &str, header: &str) -> String {
        format!("{}{header} {}{path}", self.curl_trusting(), self.url(address))
    }

    /// curl, which knows no issuer of a certificate for a try.
    fn curl_trusting(&self) -> String {
        let certificate = self.0.tls.as_ref().map(|tls| format!(" --cacert {}", tls.certificate().display()));
        format!("curl{}", certificate.unwrap_or_default())
    }

    /// The URL of the edge at `address`, without a path.
    pub fn url(&self, address: SocketAddr) -> String {
        format!("{}://{address}", if self.0.tls.is_some() { "https" } else { "http" })
    }

    /// The URL of the project's own page at `address`, if it has one.
    pub fn page(&self, address: SocketAddr) -> Option<String> {
        self.0.web.as_ref().map(|web| format!("{}{}", self.url(address), web.address()))
    }

    /// What listeners answer clients from outside with.
    pub fn answers(&self) -> server::Edge {
        let inner = || Arc::clone(&self.0);
        let (calls, requests, pages) = (inner(), inner(), inner());
        let public = forward::public(self.0.layers.clone());
        let layers: Handler = Arc::new(move |call| calls.grpc(call, &public));
        let front: Front = Arc::new(move |request, connection| {
            let edge = Arc::clone(&requests);
            Box::pin(async move { edge.answer(request, connection).await })
        });
        let guard: server::Guard = Arc::new(move |request, listen| {
            let refused = pages.guard.check_page(listen, request.uri(), request.headers()).err()?;
            pages.count(&refused);
            Some(refused.response(&pages.contract.schema))
        });
        server::Edge { layers, front, guard, tls: self.0.tls.clone() }
    }
}

impl Inner {
    /// Answers a gRPC call on the edge's own listener, within the limits of its client.
    fn grpc(self: &Arc<Self>, call: Call, layers: &Handler) -> Answering {
        let Some(connection) = &call.connection else { return layers(call) };
        let client = client::of(connection, call.request.headers(), &self.trusted_proxies);
        let method = call.method;
        let checked = self.limiter.request(client).and_then(|_| check_token(call.request.headers()));
        match checked.and_then(|()| self.open(method, client)) {
            Ok(open) => {
                let answering = layers(call.map_body(|body| self.arriving(method, body, client)));
                let edge = Arc::clone(self);
                Box::pin(async move { edge.leaving(answering.await, client, open).map(Body::new) })
            }
            Err(refusal) => {
                self.count(&refusal);
                Box::pin(std::future::ready(refusal.status.into_http()))
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>, connection: Connection) -> Response<Body> {
        let (mut head, body) = request.into_parts();
        let origin = cors::origin(&head);
        let client = client::of(&connection, &head.headers, &self.trusted_proxies);
        let (left, answered) = match self.limiter.request(client) {
            Ok(left) => (left, self.route(&mut head, body, Caller { connection, client }).await),
            Err(refusal) => (Some(0), Err(refusal)),
        };
        let mut response = answered.unwrap_or_else(|refusal| self.refuse(&head, &refusal));
        if let Some(left) = left {
            self.limiter.announce(left, &mut response);
        }
        cors::share(&self.guard, origin.as_ref(), &mut response);
        response
    }

    fn refuse(&self, head: &Parts, refusal: &Refusal) -> Response<Body> {
        self.count(refusal);
        let schema = &self.contract.schema;
        // EventSource gives up at a 429.
        let events = refusal.http == StatusCode::TOO_MANY_REQUESTS && self.asks_for_events(head);
        let response = sse::failure(schema, &refusal.status).filter(|_| events);
        response.unwrap_or_else(|| refusal.response(schema))
    }

    /// Whether a request is for a stream of events.
    fn asks_for_events(&self, head: &Parts) -> bool {
        let streams = || {
            self.contract
                .find(head.method.as_str(), head.uri.path())
                .is_ok_and(|(route, _)| route.shape().method.server_streaming)
        };
        headers::accepts(&head.headers, sse::EVENT_STREAM) && streams()
    }

    /// Counts what the edge itself refuses.
    fn count(&self, refusal: &Refusal) {
        refusal.own.into_iter().for_each(|reason| self.metrics.refused(reason));
    }

    async fn route(&self, head: &mut Parts, body: Incoming, caller: Caller) -> Result<Response<Body>, Refusal> {
        // HTTP/1.1 has less room for a head anyway.
        if head.version == http::Version::HTTP_2 {
            let checked = server::check_head(&head.uri, &head.headers);
            checked.map_err(|status| Refusal::own("HEADERS_TOO_LARGE", status))?;
        }
        self.guard.check(head)?;
        if let Some(preflight) = cors::preflight(head) {
            return Ok(preflight);
        }
        match grpc_web::format(&head.headers) {
            // A call is a POST: of other methods the guard does not check the origin.
            _ if head.method != http::Method::POST => {}
            grpc_web::Format::Other => {}
            grpc_web::Format::Binary => return Ok(self.grpc_web(head, body, caller).await),
            grpc_web::Format::Unknown => return Err(no_such_grpc_web()),
        }
        if let Some(page) = self.pages.answer(head) {
            return Ok(page);
        }
        if let Some(answered) = self.web.as_ref().and_then(|web| web.answer(head)) {
            return answered;
        }
        if websocket::is_asked_for(head) {
            return self.websocket(head, caller);
        }
        // A HEAD is answered as a GET, and hyper leaves out the body.
        let method = if head.method == http::Method::HEAD { "GET" } else { head.method.as_str() };
        let found = self.contract.find(method, head.uri.path());
        let (route, matched) = found.map_err(|miss| self.no_call(miss, head))?;
        let called = route.shape().method;
        match (called.client_streaming, called.server_streaming) {
            (false, false) => self.unary(&route, &matched, head, body, caller).await,
            (false, true) => self.stream(route, &matched, head, body, caller).await,
            (true, _) => Err(needs_websocket()),
        }
    }

    /// Why a request is none of a rule: its path may be that of a public method of gRPC.
    fn no_call(&self, miss: Miss, head: &Parts) -> Refusal {
        let is_method = self.contract.public(head.uri.path()).is_some();
        match miss {
            Miss::NotFound if is_method && head.method == http::Method::POST => {
                let message = "this path is a method of gRPC: the content type of a call is application/grpc or \
                               application/grpc-web+proto";
                Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented, "UNSUPPORTED_MEDIA_TYPE", message)
            }
            Miss::NotFound if is_method => Refusal::method_not_allowed(&["POST".to_owned()]),
            miss => missed(miss),
        }
    }

    async fn unary(
        &self,
        route: &Route,
        matched: &Matched<'_>,
        head: &Parts,
        body: Incoming,
        caller: Caller,
    ) -> Result<Response<Body>, Refusal> {
        let failed = |status| Refusal::of_call(status, route.binding(), &head.headers);
        self.admit(route, head, &caller).await.map_err(failed)?;
        // A call that waits for an event is a stream for the limits of the server, too.
        let _open = self.open(route.shape().method, caller.client)?;
        let body = request::message(matched, head, head.uri.query(), None, body, self.reader(caller.client)).await?;
        let answered = async { self.call(route, head, caller.connection, body).await?.only().await };
        let (message, token) = answered.await.map_err(failed)?;
        let mut response = unary::answer(head, route, &message, &self.memory.of(caller.client))?;
        response.headers_mut().extend(token.map(|token| (MESH_CONSISTENCY, token)));
        if route.shape().method.access == Access::Authenticated {
            // A browser keeps it for one user, and another may sign in.
            response.headers_mut().append(VARY, HeaderValue::from_static("authorization"));
        }
        Ok(response)
    }

    async fn stream(
        &self,
        route: Route,
        matched: &Matched<'_>,
        head: &Parts,
        body: Incoming,
        caller: Caller,
    ) -> Result<Response<Body>, Refusal> {
        let events = headers::accepts(&head.headers, sse::EVENT_STREAM);
        let schema = self.contract.schema.clone();
        let failed = |status: Status| sse::failure(&schema, &status).filter(|_| events).ok_or_else(|| status.into());
        if let Err(status) = self.admit(&route, head, &caller).await {
            return failed(status);
        }
        let open = self.limiter.stream(caller.client)?;
        let last_event = headers::text(&head.headers, "last-event-id").filter(|_| events && route.shape().resumes());
        let query =
            head.uri.query().map(|query| if last_event.is_some() { without_cursor(query) } else { query.into() });
        let cursor = last_event.map(|value| FromHeader { header: "Last-Event-ID", field: "cursor", value });
        // A browser whose stream had no event yet comes again with the cursor of the address.
        let seen = last_event.map(str::to_owned).or_else(|| given_cursor(head.uri.query()?));
        let seen = seen.filter(|_| events && route.shape().resumes());
        let reader = self.reader(caller.client);
        let body = request::message(matched, head, query.as_deref(), cursor, body, reader).await?;
        let mut messages = match self.call(&route, head, caller.connection, body).await {
            Ok(messages) => messages,
            Err(status) => return failed(status),
        };
        if let Some(seen) = seen {
            let known = |message: &[u8]| route.shape().cursor(message).as_ref() == Some(&seen);
            if messages.is_over(RESUMING, known).await {
                return Ok(sse::over());
            }
        }
        let answer = if events { sse::answer } else { ndjson::answer };
        Ok(answer(route, schema, messages.holding(open)))
    }

    /// Opens a socket, which the process serves beside the connection.
    fn websocket(&self, head: &mut Parts, caller: Caller) -> Result<Response<Body>, Refusal> {
        let open = self.limiter.stream(caller.client)?;
        self.guard.check_socket(head)?;
        let path = head.uri.path().to_owned();
        let found = self.contract.find(websocket::KIND, &path).or_else(|_| self.contract.find("GET", &path));
        let (route, matched) = found.map_err(missed)?;
        let method = route.shape().method;
        if !method.client_streaming && !method.server_streaming {
            return Err(websocket::bad("the method of this path has no stream: ask without an upgrade"));
        }
        let (requests, body) = if method.client_streaming {
            websocket::Requests::of(head)
        } else {
            (websocket::Requests::none(), request::of_address(&matched, head)?)
        };
        let timeout = headers::timeout(&head.headers, method, self.deadline, Duration::ZERO)?;
        let mut metadata = headers::metadata(&head.headers);
        let (response, upgrade) = websocket::accept(head, &mut metadata)?;
        let answering = call::call(&self.layers, method, caller.connection.clone(), timeout, metadata, body);
        let most = self.max_body;
        self.tasks.run(async move {
            websocket::serve(upgrade, most, route, requests, answering, caller.connection.ended()).await;
            // The connection has its age until here, and the client its stream.
            drop((caller, open));
        });
        Ok(response)
    }

    /// The messages pass as they are.
    async fn grpc_web(&self, head: &Parts, body: Incoming, caller: Caller) -> Response<Body> {
        let Some(method) = self.contract.public(head.uri.path()) else {
            let message = format!("`{}` is no public method", head.uri.path());
            self.metrics.refused("UNKNOWN_METHOD");
            return grpc_web::failure(status(Code::Unimplemented, DOMAIN, "UNKNOWN_METHOD", message));
        };
        let open = self.open(method, caller.client);
        match (headers::timeout(&head.headers, method, self.deadline, Duration::ZERO), open) {
            (Ok(timeout), Ok(open)) => {
                let metadata = headers::metadata(&head.headers);
                let body = self.arriving(method, body, caller.client);
                let answering = call::call(&self.layers, method, caller.connection, timeout, metadata, body);
                grpc_web::answer(self.leaving(answering.await, caller.client, open))
            }
            (Err(status), _) => grpc_web::failure(status),
            (_, Err(refusal)) => {
                self.count(&refusal);
                grpc_web::failure(*refusal.status)
            }
        }
    }

    /// Asks who calls: a caller that is refused has nothing read of its body, and learns nothing of its mistakes.
    async fn admit(&self, route: &Route, head: &Parts, caller: &Caller) -> Result<(), Status> {
        self.gate.check(route.shape().method, &caller.connection, &headers::metadata(&head.headers)).await
    }

    /// An open stream of a client, if a call of the method is one.
    fn open(&self, method: &Method, client: IpAddr) -> Result<Option<Share>, Refusal> {
        method.waits.then(|| self.limiter.stream(client)).transpose()
    }

    /// The answer of a call, whose body counts until it is written.
    fn leaving(&self, response: Response<Body>, client: IpAddr, open: Option<Share>) -> Response<Leaving> {
        response.map(|body| Leaving::new(body, self.memory.of(client), open))
    }

    /// A body that counts while it arrives, without trailers. A stream is bounded by its messages: what has passed
    /// takes no memory.
    fn arriving<B>(&self, method: &Method, body: B, client: IpAddr) -> Body
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
    {
        if method.client_streaming {
            forward::without_trailers(Body::new(body))
        } else {
            Body::new(Arriving::new(body, self.memory.of(client)))
        }
    }

    /// Reads a body of a client.
    fn reader(&self, client: IpAddr) -> Reader {
        Reader { most: self.max_body, share: self.memory.of(client) }
    }

    async fn call(
        &self,
        route: &Route,
        head: &Parts,
        connection: Connection,
        body: Body,
    ) -> Result<call::Messages, Status> {
        let method = route.shape().method;
        // The call begins before a body that goes on as it arrives.
        let arrival = if route.binding().body.is_raw() { ARRIVAL } else { Duration::ZERO };
        let timeout = headers::timeout(&head.headers, method, self.deadline, arrival)?;
        let metadata = headers::metadata(&head.headers);
        call::Messages::of(call::call(&self.layers, method, connection, timeout, metadata, body).await)
    }
}

/// A query without the cursor of the address: the one in `Last-Event-ID` is later.
fn without_cursor(query: &str) -> String {
    let kept: Vec<_> = query.split('&').filter(|pair| !pair.starts_with("cursor=")).collect();
    kept.join("&")
}

/// The cursor of the address. What is escaped of it is base64's own.
fn given_cursor(query: &str) -> Option<String> {
    let cursor = query.split('&').find_map(|pair| pair.strip_prefix("cursor="))?;
    let mut cursor = cursor.to_owned();
    for (escaped, character) in [("%2B", "+"), ("%2b", "+"), ("%2F", "/"), ("%2f", "/"), ("%3D", "="), ("%3d", "=")] {
        cursor = cursor.replace(escaped, character);
    }
    Some(cursor).filter(|cursor| !cursor.is_empty())
}

fn missed(miss: Miss) -> Refusal {
    match miss {
        Miss::BadPath(reason) => {
            Refusal::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, "MALFORMED_PATH", reason.to_string())
        }
        Miss::NotFound => {
            let message = "no contract has this path: /openapi.json lists those that there are";
            Refusal::new(StatusCode::NOT_FOUND, Code::NotFound, "UNKNOWN_PATH", message)
        }
        Miss::Method { allow } if allow.is_empty() => needs_websocket(),
        Miss::Method { allow } => Refusal::method_not_allowed(&allow),
    }
}

fn no_such_grpc_web() -> Refusal {
    let message = "gRPC-Web is served in its binary form: application/grpc-web+proto";
    Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented, "UNSUPPORTED_MEDIA_TYPE", message)
}

fn needs_websocket() -> Refusal {
    let message = "this path is for WebSockets: its client sends a stream";
    Refusal::new(StatusCode::UPGRADE_REQUIRED, Code::Unimplemented, "WEBSOCKET_REQUIRED", message)
}

//! The listener at which the app calls others: one address for all services of the mesh.
//!
//! The service is the host of the request, if that is the name of one, and else the first segment of the package in the
//! path: `/catalog.v1.CatalogService/GetTitle` goes to `catalog`. This hop is the caller: it finds the instances, and
//! alone repeats what the contract allows.
//!
//! Guarantees:
//! - A peer sees the service as its caller, or the user whose passport came with the call that the app answers. What
//!   the app writes of identities by itself counts for nothing.
//! - A request that no service is found for goes nowhere.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use mesh_rpc::auth::{Passports, passports};
use mesh_rpc::call::error::{DOMAIN, status};
use mesh_rpc::call::{Call, Connection, HttpMethods, Methods, Trace, peer, plain, strip_reserved};
use mesh_rpc::client::{Channel, Peers};
use mesh_rpc::server::{Front, is_grpc};
use mesh_rpc::telemetry;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::headers;

/// What the app can call.
pub(crate) struct Outbound {
    peers: Peers,
    methods: Methods,
    routes: BTreeMap<&'static str, Route>,
    /// Those that the app copies from the calls that it answers.
    passports: Option<Passports>,
}

/// The way to a service: made at the first call, because most apps call few.
#[derive(Default)]
struct Route {
    channel: OnceLock<Channel>,
    http: OnceLock<HttpMethods>,
}

impl Outbound {
    /// `names` are the services of the system.
    pub(crate) fn new(
        peers: Peers,
        methods: Methods,
        names: impl IntoIterator<Item = &'static str>,
        passports: Option<Passports>,
    ) -> Self {
        let routes = names.into_iter().map(|name| (name, Route::default())).collect();
        Self { peers, methods, routes, passports }
    }

    /// Answers the requests of the app.
    pub(crate) fn front(self) -> Front {
        let outbound = Arc::new(self);
        Arc::new(move |request, connection| {
            let outbound = Arc::clone(&outbound);
            Box::pin(async move {
                if request.version() == Version::HTTP_2 && is_grpc(&request) {
                    outbound.call(request, connection).await.unwrap_or_else(Status::into_http)
                } else {
                    outbound.plain(request, connection).await
                }
            })
        })
    }

    async fn call(&self, request: Request<Incoming>, connection: Connection) -> Result<Response<Body>, Status> {
        let path = request.uri().path();
        let package = path.trim_start_matches('/').split(['.', '/']).next().unwrap_or_default();
        let host = host(&request);
        let found = host.as_deref().and_then(|host| self.routes.get_key_value(host));
        let found = found.or_else(|| self.routes.get_key_value(package));
        let Some((name, route)) = found else { return Err(self.unknown(package)) };
        let method = self.methods.find(path);
        let call = Call::new(method, Some(connection), request.map(Body::new));
        self.send(name, route, call).await
    }

    async fn plain(&self, request: Request<Incoming>, connection: Connection) -> Response<Body> {
        let host = host(&request).unwrap_or_default();
        let Some((name, route)) = self.routes.get_key_value(&*host) else {
            return plain::error(StatusCode::MISDIRECTED_REQUEST, &self.unknown(&host));
        };
        let method = route.http.get_or_init(|| HttpMethods::of(name)).for_request(&request);
        let mut call = Call::new(method, Some(connection), request.map(Body::new));
        headers::end_to_end(call.request.headers_mut());
        // Its instance has an address of its own.
        call.request.headers_mut().remove(HOST);
        *call.request.version_mut() = Version::HTTP_2;
        plain::plain(self.send(name, route, call).await.unwrap_or_else(Status::into_http))
    }

    async fn send(&self, name: &'static str, route: &Route, call: Call) -> Result<Response<Body>, Status> {
        let Call { method, mut context, mut request, .. } = call;
        if let (Some(passports), Some(passport)) = (&self.passports, passport(request.headers_mut())) {
            context.caller = passports.from_app(&passport)?;
        }
        strip_reserved(request.headers_mut());
        let channel = route.channel.get_or_init(|| self.peers.channel(name));
        // The app has no span: the call continues the trace where its headers say. Without them it begins one.
        let caller = Trace::from_headers(request.headers());
        let asking = || context.enter(|| channel.send(method, request));
        let Ok(response) = match caller {
            Some(caller) => telemetry::below(caller, asking).await,
            None => asking().await,
        };
        Ok(peer::passed_on(response))
    }

    fn unknown(&self, name: &str) -> Status {
        let known = self.routes.keys().copied().collect::<Vec<_>>().join(", ");
        let message =
            format!("there is no service `{name}`; the sidecar knows {known}, and sidecar.peers names others");
        status(Code::Unimplemented, DOMAIN, "UNKNOWN_SERVICE", message)
    }
}

fn passport(headers: &mut HeaderMap) -> Option<http::HeaderValue> {
    headers.remove(passports::HEADER).filter(|passport| !passport.is_empty())
}

/// The host of a request, without its port.
fn host<B>(request: &Request<B>) -> Option<String> {
    let named = || request.headers().get(HOST)?.to_str().ok()?.parse::<Authority>().ok();
    let authority = request.uri().authority().cloned().or_else(named)?;
    Some(authority.host().to_ascii_lowercase())
}

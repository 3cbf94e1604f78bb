//! The ports of a process: gRPC, the admin pages and other HTTP, on one listener or on up to three.
//!
//! They answer from the first moment, while the process opens and migrates its databases: a client that finds a silent
//! port would wait for its deadline.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use mesh_runtime::Tasks;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;

use super::admin::{self, Admin};
use super::connection::Handshake;
use super::form;
use super::handshakes::Handshakes;
use super::health_service;
use super::listener::{self, Bound, TlsOfNew};
use super::media_type::{is_grpc, not_a_call};
use super::settings::Limits;
use super::tls::Tls;
use crate::call::{Answering, Call, Connection, Handler, Methods};
use crate::identity::{Security, Transport};
use crate::telemetry::Side;

/// Answers HTTP requests that are neither gRPC nor for an admin page.
pub type Front = Arc<dyn Fn(Request<Incoming>, Connection) -> Answering + Send + Sync>;

/// What a process answers with.
pub struct Answers {
    /// gRPC calls.
    pub layers: Handler,
    /// The methods that the calls are of.
    pub methods: Methods,
    /// The admin pages.
    pub admin: Admin,
    /// A page beside the admin pages, for requests that it takes.
    pub page: Option<Page>,
    /// Other requests. `None`: they are not found.
    pub edge: Option<Edge>,
    /// The certificates of the services.
    pub transport: Transport,
}

/// What clients from outside of the mesh are answered with.
#[derive(Clone)]
pub struct Edge {
    /// gRPC calls, on the edge's own listener.
    pub layers: Handler,
    /// Requests that are neither gRPC nor for an admin page.
    pub front: Front,
    /// Refuses requests that a page of another site makes a browser send, before an admin page is shown at an address.
    pub guard: Guard,
    /// TLS of the edge's own listener, if it speaks TLS.
    pub tls: Option<Tls>,
}

/// Whether a page answers a request.
pub type Takes = Arc<dyn Fn(&Request<Incoming>) -> bool + Send + Sync>;

/// A page beside the admin pages. It guards itself.
#[derive(Clone)]
pub struct Page {
    /// Which requests it answers.
    pub takes: Takes,
    /// Answers it.
    pub front: Front,
}

/// The refusal of a request; `None`: it may be answered.
pub type Guard = Arc<dyn Fn(&Request<Incoming>, SocketAddr) -> Option<Response<Body>> + Send + Sync>;

/// The admin pages at a listener.
#[derive(Clone)]
struct Pages {
    admin: Admin,
    page: Option<Page>,
    guard: Option<(Guard, SocketAddr)>,
}

impl Pages {
    /// `None`: the path is none of a page.
    fn answer(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        let page = self.admin.answer(request)?;
        let refused = self.guard.as_ref().and_then(|(guard, listen)| guard(request, *listen));
        Some(refused.unwrap_or(page))
    }
}

/// The addresses of the listeners to bind.
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    /// The services.
    pub services: SocketAddr,
    /// The admin pages, if they have a listener of their own.
    pub admin: Option<SocketAddr>,
    /// The edge, if it has a listener of its own.
    pub edge: Option<SocketAddr>,
}

impl Listen {
    /// The listeners of one process do not share a port.
    fn check_apart(&self) -> anyhow::Result<()> {
        let all = [("listen", Some(self.services)), ("admin.listen", self.admin), ("edge.listen", self.edge)];
        let named: Vec<_> = all.into_iter().filter_map(|(key, address)| Some((key, address?))).collect();
        for (index, (key, address)) in named.iter().enumerate() {
            if let Some((other, _)) = named[..index].iter().find(|(_, other)| overlap(*other, *address)) {
                anyhow::bail!(
                    "cannot listen on {address}: {other} and {key} both name it; give {key} a port of its own, or remove it \
                     to have one listener for both"
                );
            }
        }
        Ok(())
    }
}

/// Whether two listeners would have the same port of an address. Port 0 is a free one each time.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same
}

/// The listeners of a process.
pub struct Ports {
    services: TcpListener,
    admin: Option<TcpListener>,
    edge: Option<TcpListener>,
}

impl Ports {
    /// Binds the listeners. `how` names the setting of `listen.services`, for the error.
    ///
    /// # Errors
    ///
    /// An address is in use, or does not belong to this machine, or is that of two listeners. The message says what to
    /// do.
    pub async fn bind(listen: Listen, how: &str) -> anyhow::Result<Self> {
        listen.check_apart()?;
        let services = listener::bind(listen.services, how).await?;
        let own = async |address: Option<SocketAddr>, how| match address {
            Some(address) => listener::bind(address, how).await.map(Some),
            None => Ok(None),
        };
        let admin = own(listen.admin, "admin.listen or MESH__ADMIN__LISTEN").await?;
        let edge = own(listen.edge, "edge.listen or MESH__EDGE__LISTEN").await?;
        Ok(Self { services, admin, edge })
    }

    /// The bound addresses, with the ports in place of port 0.
    ///
    /// # Errors
    ///
    /// The operating system does not report the address of a listener.
    pub fn addresses(&self) -> std::io::Result<Listen> {
        Ok(Listen {
            services: self.services.local_addr()?,
            admin: self.admin.as_ref().map(TcpListener::local_addr).transpose()?,
            edge: self.edge.as_ref().map(TcpListener::local_addr).transpose()?,
        })
    }

    /// Accepts connections until `draining` is cancelled, in `tasks`.
    pub fn accept(self, limits: Limits, draining: &CancellationToken, tasks: &Tasks, answers: Answers) {
        let Answers { layers, methods, admin, page, edge, transport } = answers;
        let bound = || Bound { most: limits.connections, name: "limits.connections" };
        let (here, own) = if self.edge.is_some() { (None, edge) } else { (edge, None) };
        let guard = here.as_ref().or(own.as_ref()).map(|edge| Arc::clone(&edge.guard));
        let pages_at = |listener: &TcpListener| Pages {
            admin: admin.clone(),
            page: page.clone(),
            guard: guard.clone().zip(listener.local_addr().ok()),
        };
        let pages = self.admin.is_none().then(|| pages_at(&self.services));
        let outside = self.edge.as_ref().and_then(|edge| edge.local_addr().ok()).map(|address| address.port());
        let services = Arc::clone(&layers);
        let answer_services = answer(layers, methods.clone(), pages, here, outside);
        let (draining, again) = (draining.clone(), || tasks.clone());
        let address = self.services.local_addr().ok();
        let mutual = address.and_then(|address| match transport.at(address) {
            Security::Mutual(source) => Some(source.clone()),
            Security::Plaintext | Security::Refused => None,
        });
        let handshakes = |side| Arc::new(Handshakes::new(side, admin.metrics.tls.clone(), limits.connections));
        let mutual = mutual.map(|source| -> TlsOfNew {
            let all = handshakes(Side::Server);
            Arc::new(move || {
                let current = source.current();
                let config = Arc::clone(&current.server);
                Handshake { config, identity: Some((source.clone(), current)), all: Arc::clone(&all) }
            })
        });
        let (health_layers, health_methods) = (Arc::clone(&services), methods.clone());
        tasks.run(listener::serve(self.services, mutual, bound(), draining.clone(), again(), limits, answer_services));
        if let (Some(listener), Some(edge)) = (self.edge, own) {
            let tls = edge.tls.clone().map(|tls| -> TlsOfNew {
                let all = handshakes(Side::Edge);
                Arc::new(move || Handshake { config: tls.config(), identity: None, all: Arc::clone(&all) })
            });
            let answer_outside = answer(edge.layers.clone(), methods, None, Some(edge), None);
            tasks.run(listener::serve(listener, tls, bound(), draining.clone(), again(), limits, answer_outside));
        }
        if let Some(listener) = self.admin {
            let pages = pages_at(&listener);
            let pages = answer(only_health(health_layers), health_methods, Some(pages), None, None);
            let bound = Bound { most: limits.admin_connections(), name: "the limit of admin.listen" };
            tasks.run(listener::serve(listener, None, bound, draining, again(), limits, pages));
        }
    }
}

/// Answers calls of `grpc.health.v1.Health`, and no other: for agents without a certificate.
fn only_health(layers: Handler) -> Handler {
    Arc::new(move |call| {
        if call.method.service == health_service::NAME {
            return layers(call);
        }
        let message = "the listener of the admin pages serves grpc.health.v1.Health, and no other gRPC service";
        Box::pin(std::future::ready(Status::unimplemented(message).into_http()))
    })
}

/// Answers gRPC with `layers`, `pages`, and what else the edge answers. `elsewhere` is its port, if it is another.
fn answer(
    layers: Handler,
    methods: Methods,
    pages: Option<Pages>,
    edge: Option<Edge>,
    elsewhere: Option<u16>,
) -> impl Fn(Request<Incoming>, Connection) -> Answering + Clone {
    move |request, connection| {
        let response = if let Some(refused) = form::refuse(&request) {
            refused
        } else if is_grpc(&request) {
            if request.version() == http::Version::HTTP_2 {
                let method = methods.find(request.uri().path());
                return layers(Call::new(method, Some(connection), request.map(Body::new)));
            }
            admin::needs_http_2()
        } else if let Some(page) =
            pages.as_ref().and_then(|pages| pages.page.as_ref()).filter(|page| (page.takes)(&request))
        {
            return (page.front)(request, connection);
        } else {
            match (pages.as_ref().and_then(|pages| pages.answer(&request)), &edge) {
                (Some(page), _) => page,
                (None, Some(edge)) => return (edge.front)(request, connection),
                (None, None) if methods.find(request.uri().path()).is_known() => not_a_call(request.method()),
                (None, None) => admin::not_found(elsewhere),
            }
        };
        Box::pin(std::future::ready(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_of_one_address_are_refused_by_their_keys() {
        let check = |services: &str, admin: Option<&str>, edge: Option<&str>| {
            let address = |text: &str| text.parse().unwrap();
            let listen = Listen { services: address(services), admin: admin.map(address), edge: edge.map(address) };
            listen.check_apart().err().map(|error| error.to_string()).unwrap_or_default()
        };
        let same = check("127.0.0.1:8080", None, Some("127.0.0.1:8080"));
        assert!(same.contains("listen and edge.listen both name it"), "{same}");
        let any = check("0.0.0.0:8080", Some("127.0.0.1:9090"), Some("127.0.0.1:9090"));
        assert!(any.contains("admin.listen and edge.listen both name it"), "{any}");
        assert!(!check("0.0.0.0:8080", None, Some("127.0.0.1:8080")).is_empty(), "all addresses include it");
        assert_eq!(check("127.0.0.1:0", Some("127.0.0.1:0"), Some("127.0.0.1:0")), "");
        assert_eq!(check("127.0.0.1:8080", None, Some("127.0.0.2:8080")), "");
    }
}

//! The dashboard of a process: what it finds by the discovery of the process, and how it calls what it has found.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::join_all;
use http::Request;
use mesh_dashboard::{CALLER, Channel, Channels, Dashboard, Listed, Member, Members, Own, channel};
use mesh_edge::{Docs, Edge};
use mesh_rpc::auth;
use mesh_rpc::call::{Call, Handler, Local, Methods};
use mesh_rpc::client::Direct;
use mesh_rpc::client::connections::Dial;
use mesh_rpc::discovery::{Discovery, Registry, Seen};
use mesh_rpc::identity::Transport;
use mesh_rpc::server::{Listen, Loopback, Page};
use mesh_rpc::telemetry::TlsMetrics;
use mesh_runtime::executable;
use tonic::Status;
use tonic::body::Body;

use crate::common::Common;

/// So many services are looked for at the same time. An agent of Consul serves 200 connections of one address, which all
/// processes of a machine share.
const AT_ONCE: usize = 16;

/// The dashboard of a process, and what its listener of admin pages shows of it.
pub(crate) type Shown = (Option<Dashboard>, Option<Page>);

/// Opens the dashboard of a process, if it has one: at a listener of its own, or else for that of the admin pages.
///
/// # Errors
///
/// Its address is taken, or its token cannot be read. The message is one line.
pub(crate) async fn open(common: &Common<'_>, edge: Option<&Edge>, layers: &Handler) -> anyhow::Result<Shown> {
    let Common { config, addresses, .. } = common;
    let page = |listen| page(common, listen, edge, layers);
    if let Some(listen) = config.dashboard.listen {
        let listener = Loopback::bind(listen, "dashboard.listen or MESH__DASHBOARD__LISTEN").await?;
        let page = page(listener.address()?)?;
        if let Some(page) = &page {
            listener.accept(common.limits, &common.draining, &common.foreground, page.page().front);
        }
        return Ok((page, None));
    }
    let Listen { services, admin, .. } = *addresses;
    // A browser has no certificate of the mesh.
    if admin.is_none() && config.inbound.is_mutual_at(services) {
        return Ok((None, None));
    }
    let page = page(admin.unwrap_or(services))?;
    let shown = page.as_ref().map(Dashboard::page);
    Ok((page, shown))
}

fn page(
    common: &Common<'_>,
    listen: SocketAddr,
    edge: Option<&Edge>,
    layers: &Handler,
) -> anyhow::Result<Option<Dashboard>> {
    let Common { config, addresses, methods, discovery, metrics, draining, .. } = common;
    let registry = match config.registry {
        Registry::Local => "local",
        Registry::Static(_) => "static",
        Registry::Dns(..) => "dns",
        Registry::Consul(_) => "consul",
    };
    let version = executable::VERSION.to_owned();
    let at = addresses.edge.unwrap_or(addresses.services);
    let docs = edge.filter(|_| config.edge.docs != Docs::Off).map(|edge| format!("{}/docs", edge.url(at)));
    let links = docs.map(|url| (url, "API documentation".to_owned())).into_iter();
    let links = links.chain(edge.and_then(|edge| edge.page(at)).map(|url| (url, "page of the project".to_owned())));
    let own =
        Own { process: config.process.to_owned(), version, registry: registry.to_owned(), links: links.collect() };
    let asks = config.auth.mode == auth::Mode::Required || config.inbound.is_mutual_at(addresses.services);
    let found = Found {
        own: Member {
            id: addresses.services.to_string(),
            services: Vec::new(),
            why: String::new(),
            channel: in_memory(Arc::clone(layers), methods.clone(), config.process),
        },
        discovery: discovery.clone(),
        services: methods.services().into_iter().map(str::to_owned).collect(),
        transport: config.transport.clone(),
        metrics: metrics.tls.clone(),
        channels: Channels::default(),
    };
    Dashboard::new(&config.dashboard, listen, own, found, asks, draining.clone())
}

/// The processes that a process knows: itself, in memory, and those that its discovery finds.
struct Found {
    own: Member,
    discovery: Discovery,
    /// The services to look for where the discovery has no list.
    services: Vec<String>,
    transport: Transport,
    metrics: TlsMetrics,
    channels: Channels,
}

impl Members for Found {
    fn list(&self) -> Pin<Box<dyn Future<Output = Listed> + Send + '_>> {
        Box::pin(async move {
            let mut listed = Listed { members: vec![self.own.clone()], notes: Vec::new() };
            let services = match self.discovery.services().await {
                Ok(services) => services.unwrap_or_else(|| self.services.clone()),
                Err(why) => {
                    listed.notes.push(format!("the services of the mesh cannot be listed: {why}"));
                    Vec::new()
                }
            };
            let mut found: BTreeMap<String, (Vec<String>, Seen)> = BTreeMap::new();
            for some in services.chunks(AT_ONCE) {
                let looks = some.iter().map(|service| async move { (service, self.discovery.look(service).await) });
                for (service, seen) in join_all(looks).await {
                    match seen {
                        Ok(seen) => {
                            for one in seen {
                                let (services, _) = found.entry(one.authority.to_string()).or_insert((Vec::new(), one));
                                services.push(service.clone());
                            }
                        }
                        Err(why) => listed.notes.push(format!("the instances of {service} cannot be found: {why}")),
                    }
                }
            }
            self.channels.retain(|id| found.contains_key(id));
            listed.members.extend(found.into_iter().map(|(id, (services, seen))| self.member(id, services, &seen)));
            listed
        })
    }
}

impl Found {
    fn member(&self, id: String, services: Vec<String>, seen: &Seen) -> Member {
        let service = services.first().map(String::as_str).unwrap_or_default();
        let Ok(channel) = self.channels.get(&id, service, || {
            let dial = Dial {
                service: Arc::from(service),
                transport: self.transport.clone(),
                metrics: self.metrics.clone(),
                ..Dial::default()
            };
            Ok::<_, Infallible>(over_network(Direct::to_instance(seen.authority.clone(), dial)))
        });
        let why =
            if seen.is_passing == Some(false) { "its checks in Consul do not pass".to_owned() } else { String::new() };
        Member { id, services, why, channel }
    }
}

/// Calls the process itself, through its layers.
fn in_memory(layers: Handler, methods: Methods, process: &'static str) -> Channel {
    let local = Local { caller: CALLER, called: process };
    let service = tower::service_fn(move |request: Request<Body>| {
        let method = methods.find(request.uri().path());
        let answering = layers(Call::in_memory(method, local, request));
        async move { Ok::<_, Infallible>(answering.await) }
    });
    channel(tower::ServiceExt::map_err(service, |never| match never {}))
}

fn over_network(direct: Direct) -> Channel {
    let direct = Arc::new(direct);
    channel(tower::service_fn(move |request: Request<Body>| {
        let direct = Arc::clone(&direct);
        async move {
            match direct.send(request).await {
                Ok(response) => Ok(response.map(Body::new)),
                Err(error) => Err(Status::unavailable(error.to_string())),
            }
        }
    }))
}

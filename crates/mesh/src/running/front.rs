//! What answers at the listeners of a process: the layers around its services, the edge, the dashboard and the admin
//! pages.

use std::sync::Arc;

use mesh_dashboard::Dashboard;
use mesh_edge::Edge;
use mesh_rpc::auth::Gate;
use mesh_rpc::call::Handler;
use mesh_rpc::server::layers::stack;
use mesh_rpc::server::{Admin, Answers, KnownPlaces, Ports, Starting};

use crate::dashboard;
use crate::parts::Parts;

/// What answers at the listeners of a process.
pub(super) struct Front {
    /// The layers of each call.
    pub(super) layers: Handler,
    /// What the layers wait for until the process serves.
    pub(super) starting: Starting,
    /// What calls with consistency tokens wait for, once it is known.
    pub(super) places: KnownPlaces,
    pub(super) edge: Option<Edge>,
    pub(super) dashboard: Option<Dashboard>,
}

impl Front {
    /// Answers at `ports`. Calls fail with `UNAVAILABLE` `STARTING` until the process serves.
    ///
    /// # Errors
    ///
    /// The edge or the dashboard cannot be opened. The message is one line.
    pub(super) async fn accept(ports: Ports, parts: &Parts<'_>) -> anyhow::Result<Self> {
        let Parts { config, limits, metrics, health, draining, .. } = parts;
        let (innermost, starting) = Starting::new(health);
        let places = KnownPlaces::default();
        metrics.serves(parts.methods.of_contracts(&parts.served()));
        let gate = Gate::new(&config.auth, parts.passports.clone(), metrics.clone());
        gate.keep_fresh(&parts.background);
        let stack = stack(innermost, *limits, metrics.clone(), draining.clone(), Arc::clone(&places), gate.clone());
        let edge = edge(parts, &stack, gate)?;
        let (dashboard, page) = dashboard::open(parts, edge.as_ref(), &stack).await?;
        if let Some(dashboard) = dashboard.clone() {
            parts.background.run(dashboard.run());
        }
        let answers = Answers {
            // A gateway has no callers within the mesh.
            layers: if parts.is_gateway { mesh_edge::from_outside(stack.clone()) } else { stack.clone() },
            methods: parts.methods.clone(),
            admin: Admin { health: health.clone(), metrics: metrics.clone() },
            page,
            edge: edge.as_ref().map(Edge::answers),
            transport: config.inbound.clone(),
        };
        ports.accept(*limits, draining, &parts.foreground, answers);
        Ok(Self { layers: stack, starting, places, edge, dashboard })
    }
}

/// The edge, if the process answers HTTP.
fn edge(parts: &Parts<'_>, layers: &Handler, gate: Gate) -> anyhow::Result<Option<Edge>> {
    let Parts { config, addresses, metrics, .. } = parts;
    let outside = addresses.edge.unwrap_or(addresses.services);
    if !config.edge.answers_at(outside) {
        if config.edge.enabled.is_none() {
            tracing::info!("HTTP is not answered at {outside}, where others can reach it: set edge.enabled");
        }
        return Ok(None);
    }
    let (sets, served) = (parts.all_sets(), parts.served());
    let contracts = (&sets[..], &parts.methods, &served);
    let (layers, tasks) = (layers.clone(), parts.foreground.clone());
    let edge = Edge::new(&config.edge, outside, layers, gate, contracts, metrics.clone(), tasks)?;
    if let Some(tls) = config.edge.tls.clone() {
        parts.background.run(tls.renew());
    }
    Ok(Some(edge))
}

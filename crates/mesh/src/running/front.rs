//! What answers at the listeners of a process: the layers around its services, the edge, the dashboard and the admin
//! pages.

use std::sync::Arc;

use mesh_dashboard::Dashboard;
use mesh_edge::Edge;
use mesh_rpc::auth::Gate;
use mesh_rpc::call::Handler;
use mesh_rpc::server::layers::stack;
use mesh_rpc::server::{Admin, Answers, KnownPlaces, Starting};

use crate::common::Common;
use crate::dashboard;

/// What answers at the listeners of a process.
pub(super) struct Front {
    /// The layers of each call.
    pub(super) stack: Handler,
    /// Takes the services once they are built.
    pub(super) starting: Starting,
    /// What calls with consistency tokens wait for, once it is known.
    pub(super) places: KnownPlaces,
    pub(super) edge: Option<Edge>,
    pub(super) dashboard: Option<Dashboard>,
}

impl Front {
    /// Builds it, and opens the listener of a dashboard that has its own.
    ///
    /// # Errors
    ///
    /// The edge or the dashboard cannot be opened. The message is one line.
    pub(super) async fn build(common: &Common<'_>) -> anyhow::Result<(Self, Answers)> {
        let Common { config, limits, metrics, health, draining, .. } = common;
        let (innermost, starting) = Starting::new(health);
        let places = KnownPlaces::default();
        let gate = Gate::new(&config.auth, common.passports.clone(), metrics.clone());
        gate.keep_fresh(&common.background);
        let stack = stack(innermost, *limits, metrics.clone(), draining.clone(), Arc::clone(&places), gate.clone());
        let edge = edge(common, &stack, gate)?;
        let (dashboard, page) = dashboard::open(common, edge.as_ref(), &stack).await?;
        if let Some(dashboard) = dashboard.clone() {
            common.background.run(dashboard.run());
        }
        let answers = Answers {
            // A gateway has no callers within the mesh.
            layers: if common.is_gateway { mesh_edge::from_outside(stack.clone()) } else { stack.clone() },
            methods: common.methods.clone(),
            admin: Admin { health: health.clone(), metrics: metrics.clone() },
            page,
            edge: edge.as_ref().map(Edge::answers),
            transport: config.inbound.clone(),
        };
        Ok((Self { stack, starting, places, edge, dashboard }, answers))
    }
}

/// The edge, if the process answers HTTP.
fn edge(common: &Common<'_>, layers: &Handler, gate: Gate) -> anyhow::Result<Option<Edge>> {
    let Common { config, addresses, metrics, .. } = common;
    let outside = addresses.edge.unwrap_or(addresses.services);
    if !config.edge.answers_at(outside) {
        if config.edge.enabled.is_none() {
            tracing::info!("HTTP is not answered at {outside}, where others can reach it: set edge.enabled");
        }
        return Ok(None);
    }
    let (sets, served) = (common.all_sets(), common.served());
    let contracts = (&sets[..], &common.methods, &served);
    let (layers, tasks) = (layers.clone(), common.foreground.clone());
    let edge = Edge::new(&config.edge, outside, layers, gate, contracts, metrics.clone(), tasks)?;
    if let Some(tls) = config.edge.tls.clone() {
        common.background.run(tls.renew());
    }
    Ok(Some(edge))
}

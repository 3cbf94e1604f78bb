//! The services of a process, built from what they declare, with their databases.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_events::{self as events, Published};
use mesh_feed::notifier::Notifier;
use mesh_follow::{self as follow, Copied, Follower};
use mesh_operations::{self as operations, Operations, Workers};
use mesh_rpc::call::GrpcServices;
use mesh_rpc::client::{Declared, Peers};
use mesh_rpc::server::{Check, Readiness};
use mesh_rpc::telemetry::Metrics;
use mesh_runtime::Tasks;
use mesh_store::{Database, Limits, OpenError, Store, with_missing};
use tokio_util::sync::CancellationToken;

use super::housekeeping::housekeeping;
use crate::calls::{DeclaredCall, ServiceCalls};
use crate::common::Common;
use crate::places::Places;
use crate::resources::Resources;
use crate::schema::SCHEMA;
use crate::service::Service;

/// The services of a process.
#[derive(Default)]
pub(super) struct Built {
    pub(super) grpc: GrpcServices,
    pub(super) checks: Vec<(&'static str, Check)>,
    pub(super) stores: Vec<Store>,
    pub(super) places: Places,
    pub(super) work: Work,
    operations: Vec<Operations>,
    published: Vec<Published>,
}

/// What a process begins by itself, rather than for a caller.
#[derive(Default)]
pub(super) struct Work {
    workers: Vec<Workers>,
    followers: Vec<Arc<Follower>>,
}

impl Work {
    /// Begins it.
    pub(super) async fn begin(
        self,
        draining: CancellationToken,
        tasks: Tasks,
        metrics: Metrics,
    ) -> Result<(), mesh_store::Error> {
        for workers in self.workers {
            workers.start(&draining, &tasks, &metrics).await?;
        }
        for follower in self.followers {
            tasks.run(follower.run(draining.clone()));
        }
        Ok(())
    }
}

impl Built {
    /// Opens the databases, migrates them, and builds the services.
    ///
    /// # Errors
    ///
    /// A database cannot be opened, or what a service declares does not fit. The message is one line.
    pub(super) async fn build(
        services: Vec<Service>,
        mut calls: ServiceCalls,
        common: &Common<'_>,
        peers: &Peers,
    ) -> anyhow::Result<Self> {
        let (config, notifier) = (common.config, Notifier::default());
        let mut built = Self::default();
        // Before a database is made for what is declared wrongly.
        services.iter().try_for_each(|service| service.sources().map(drop))?;
        let owners = services.iter().filter(|service| service.owns_data());
        let databases: Vec<_> =
            owners.filter_map(|service| Some((service.name(), config.database(service.name())?))).collect();
        let mut unopened = &databases[..];
        for service in services {
            let store = match unopened.split_first() {
                Some(((owner, (database, limits)), others)) if *owner == service.name() => {
                    unopened = others;
                    match open(&service, database, *limits).await {
                        Ok(store) => Some(store),
                        Err(error) => return Err(with_missing(error, others).await.into()),
                    }
                }
                _ => None,
            };
            let calls = calls.remove(service.name()).unwrap_or_default();
            built.add(service, store, calls, common, peers, &notifier).await?;
        }
        Ok(built)
    }

    /// Builds a service.
    async fn add(
        &mut self,
        service: Service,
        store: Option<Store>,
        calls: Vec<DeclaredCall>,
        common: &Common<'_>,
        peers: &Peers,
        notifier: &Notifier,
    ) -> anyhow::Result<()> {
        let Common { config, metrics, .. } = common;
        let (name, sources) = (service.name(), service.sources()?);
        let operations = store.clone().filter(|_| service.does_long_work());
        let operations = operations.map(|store| {
            let (operations, queue) = Operations::new(name, store, notifier.clone());
            common.background.run(queue.write());
            operations
        });
        if let (Some(store), Some(publishes)) = (store.clone(), service.published()) {
            let published = Published::new(name, store, notifier.clone(), publishes.clone());
            self.places.publishes(name, published.clone());
            self.published.push(published);
        }
        let declared = calls.into_iter().map(|call| (call.peer, call.method));
        let peers = peers.of(name, Declared::new(name, declared, metrics.clone()));
        let settings = config.settings(name);
        let copies = copies(store.as_ref(), &sources).await?;
        self.places.follows(name, copies.clone());
        let resources =
            Resources { service: name, store: store.clone(), operations: operations.clone(), copies, peers, settings };
        let (kinds, followers) = service.build(&resources, &mut self.grpc, metrics)?;
        for kind in &kinds {
            kind.check_kept(name, config.retention).map_err(anyhow::Error::msg)?;
        }
        self.work.followers.extend(followers.into_iter().map(Arc::new));
        if let Some(operations) = operations {
            self.work.workers.push(Workers::new(operations.clone(), kinds));
            self.operations.push(operations);
        }
        self.checks.extend(store.clone().map(|store| (name, database_check(store))));
        self.stores.extend(store);
        Ok(())
    }

    /// Begins what the databases need beside calls: their logs are numbered, read and passed on, and old rows deleted.
    pub(super) fn run_background(&self, common: &Common<'_>) {
        let Common { config, background, .. } = common;
        for store in self.stores.clone() {
            background.run(async move { store.sequence().await });
        }
        let (stores, operations) = (self.stores.clone(), self.operations.clone());
        background.run(housekeeping(stores, operations, config.retention, config.keep_events));
        for operations in self.operations.clone() {
            background.run(operations.poll());
        }
        for published in self.published.clone() {
            background.run(published.clone().poll());
            #[cfg(feature = "nats")]
            relay(published, common);
        }
    }

    /// Adds the gRPC services of mesh that answer from the databases.
    ///
    /// # Errors
    ///
    /// A database does not answer.
    pub(super) async fn serve_of_mesh(&mut self, draining: &CancellationToken) -> anyhow::Result<()> {
        if !self.operations.is_empty() {
            operations::serve(self.operations.clone(), &mut self.grpc, draining.clone()).await?;
        }
        if !self.published.is_empty() {
            events::serve(self.published.clone(), &mut self.grpc).await?;
        }
        if !self.work.followers.is_empty() {
            follow::serve(&self.work.followers, &mut self.grpc);
        }
        Ok(())
    }
}

/// Passes the events of a service on to NATS, if the process has servers of it.
#[cfg(feature = "nats")]
fn relay(published: Published, common: &Common<'_>) {
    let Common { config, metrics, draining, .. } = common;
    if let Some(servers) = config.nats.clone() {
        let nats = mesh_carrier::Nats::new(servers, published.service(), config.keep_events.0);
        let relay = mesh_carrier::Relay::new(published, nats, metrics);
        common.foreground.run(relay.run(draining.clone()));
    }
}

/// The copies of what a service follows.
async fn copies(
    store: Option<&Store>,
    sources: &[&'static str],
) -> Result<BTreeMap<&'static str, Copied>, mesh_store::Error> {
    let mut copies = BTreeMap::new();
    for (store, source) in store.into_iter().flat_map(|store| sources.iter().map(move |source| (store, *source))) {
        copies.insert(source, Copied::open(store, source).await?);
    }
    Ok(copies)
}

/// Opens the database of a service, with the migrations of mesh and of the service.
pub(crate) async fn open(service: &Service, database: &Database, limits: Limits) -> Result<Store, OpenError> {
    let store = mesh_store::open_within(service.name(), database, limits, &SCHEMA, service.migrations()).await?;
    if limits.statement_cache > 0 && !store.keeps_statements() {
        tracing::info!(
            service = service.name(),
            "a pooler shares database sessions between clients: prepared statements are off; set \
             database.statement_cache to 0 to skip the check"
        );
    }
    Ok(store)
}

/// The readiness check of a service: its database answers, and takes writes.
fn database_check(store: Store) -> Check {
    Box::new(move |limit| {
        let store = store.clone();
        Box::pin(async move {
            match store.check(limit).await {
                Ok(None) => Readiness::Ready,
                Ok(Some(degraded)) => Readiness::Degraded(degraded.to_string()),
                Err(error) => Readiness::NotReady(error.to_string()),
            }
        })
    })
}

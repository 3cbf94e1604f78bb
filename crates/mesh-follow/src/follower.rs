//! A follower of one source, in the database of a service.

use std::sync::Arc;

use mesh_rpc::client::Channel;
use mesh_rpc::telemetry::{FollowMetrics, Metrics};
use mesh_store::Store;

use super::copy::Copied;
use super::follow::{Apply, Follow};
use super::seen::Seen;

/// A follower of one source, in the database of a service.
pub struct Follower {
    pub(super) service: &'static str,
    pub(super) source: &'static str,
    pub(super) store: Store,
    pub(super) channel: Channel,
    pub(super) copy: Arc<dyn Apply>,
    pub(super) copied: Copied,
    pub(super) seen: Seen,
    pub(super) metrics: FollowMetrics,
}

impl Follower {
    /// A follower for `service`, whose database is `store`. `channel` leads to the source.
    pub fn new<F: Follow>(
        service: &'static str,
        store: Store,
        channel: Channel,
        copied: Copied,
        metrics: &Metrics,
        follow: F,
    ) -> Self {
        let (source, copy) = (F::SOURCE, Arc::new(follow));
        let (seen, metrics) = (Seen::default(), metrics.follower(service, source));
        Self { service, source, store, channel, copy, copied, seen, metrics }
    }
}

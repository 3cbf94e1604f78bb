//! The metrics of followers: how far each is behind its source, and what it has applied.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The metrics of all followers of a process. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct FollowFamilies {
    lag_events: Family<SourceLabels, Gauge>,
    lag_seconds: Family<SourceLabels, Gauge<f64, AtomicU64>>,
    last_heard: Family<SourceLabels, Gauge<f64, AtomicU64>>,
    parked: Family<SourceLabels, Gauge>,
    applied: Family<SourceLabels, Counter>,
    unknown: Family<SourceLabels, Counter>,
    resets: Family<SourceLabels, Counter>,
    /// What each follower last said.
    followers: Arc<Mutex<Lags>>,
}

/// By service and source.
type Lags = BTreeMap<(&'static str, &'static str), Option<Lag>>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SourceLabels {
    service: &'static str,
    source: &'static str,
}

impl FollowFamilies {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "mesh_follow_lag_events",
            "Events of the source behind the follower",
            self.lag_events.clone(),
        );
        let lag_seconds = "Age of the oldest event that was received and not applied";
        registry.register("mesh_follow_lag_seconds", lag_seconds, self.lag_seconds.clone());
        let last_heard = "Time since the source last sent anything";
        registry.register("mesh_follow_last_heard_seconds", last_heard, self.last_heard.clone());
        registry.register("mesh_follow_parked", "Keys with parked events", self.parked.clone());
        registry.register("mesh_follow_applied", "Events and rows of snapshots applied", self.applied.clone());
        registry.register("mesh_follow_unknown", "Events of unknown types passed over", self.unknown.clone());
        registry.register("mesh_follow_resets", "Rebuilds of the copy that began", self.resets.clone());
    }

    pub(super) fn follower(&self, service: &'static str, source: &'static str) -> FollowMetrics {
        let labels = SourceLabels { service, source };
        let applied = self.applied.get_or_create_owned(&labels);
        let unknown = self.unknown.get_or_create_owned(&labels);
        let resets = self.resets.get_or_create_owned(&labels);
        let metrics = FollowMetrics { labels, applied, unknown, resets, families: self.clone() };
        self.say(&metrics.labels, None);
        metrics
    }

    /// The followers by service and source, with their lag if this process applies the events.
    pub(super) fn followers(&self) -> Vec<(&'static str, &'static str, Option<Lag>)> {
        let followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers.iter().map(|((service, source), lag)| (*service, *source, *lag)).collect()
    }

    fn say(&self, labels: &SourceLabels, lag: Option<Lag>) {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers.insert((labels.service, labels.source), lag);
    }
}

/// The metrics of one follower. Cheap to clone.
#[derive(Clone)]
pub struct FollowMetrics {
    labels: SourceLabels,
    /// Events and rows of snapshots that were applied.
    pub applied: Counter,
    /// Events of unknown types.
    pub unknown: Counter,
    /// Rebuilds that began.
    pub resets: Counter,
    families: FollowFamilies,
}

/// How far a follower is behind its source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lag {
    /// The events of the source that are not applied.
    pub events: i64,
    /// The age of the oldest of them that was received, in seconds.
    pub seconds: f64,
    /// The time since the source last sent anything, in seconds.
    pub heard: f64,
    /// The keys with parked events.
    pub parked: i64,
    /// Whether the stream of the source is open.
    pub connected: bool,
}

impl FollowMetrics {
    /// Sets the lag. Only the process that applies the events knows it.
    pub fn set(&self, lag: Lag) {
        self.families.say(&self.labels, Some(lag));
        self.families.lag_events.get_or_create(&self.labels).set(lag.events);
        self.families.lag_seconds.get_or_create(&self.labels).set(lag.seconds);
        self.families.last_heard.get_or_create(&self.labels).set(lag.heard);
        self.families.parked.get_or_create(&self.labels).set(lag.parked);
    }

    /// Removes the series of the lag: another process applies the events now.
    pub fn remove(&self) {
        self.families.say(&self.labels, None);
        self.families.lag_events.remove(&self.labels);
        self.families.lag_seconds.remove(&self.labels);
        self.families.last_heard.remove(&self.labels);
        self.families.parked.remove(&self.labels);
    }
}

//! The metrics of relays to a broker: how far each is behind the log of its service.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The metrics of all relays of a process. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct CarrierFamilies {
    lag_events: Family<ServiceLabels, Gauge>,
    lag_seconds: Family<ServiceLabels, Gauge<f64, AtomicU64>>,
    last_answer: Family<ServiceLabels, Gauge<f64, AtomicU64>>,
    published: Family<ServiceLabels, Counter>,
    resets: Family<ServiceLabels, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ServiceLabels {
    service: &'static str,
}

impl CarrierFamilies {
    pub(super) fn register(&self, registry: &mut Registry) {
        let lag_events = "Events of the service that the broker does not have";
        registry.register("mesh_carrier_lag_events", lag_events, self.lag_events.clone());
        let lag_seconds = "Age of the oldest event that the broker does not have";
        registry.register("mesh_carrier_lag_seconds", lag_seconds, self.lag_seconds.clone());
        let last_answer = "Time since the broker last answered";
        registry.register("mesh_carrier_last_answer_seconds", last_answer, self.last_answer.clone());
        registry.register("mesh_carrier_published", "Events that the broker acknowledged", self.published.clone());
        registry.register("mesh_carrier_resets", "Resets that the broker acknowledged", self.resets.clone());
    }

    pub(super) fn carrier(&self, service: &'static str) -> CarrierMetrics {
        let labels = ServiceLabels { service };
        let published = self.published.get_or_create_owned(&labels);
        let resets = self.resets.get_or_create_owned(&labels);
        CarrierMetrics { labels, published, resets, families: self.clone() }
    }
}

/// The metrics of one relay. Cheap to clone.
#[derive(Clone)]
pub struct CarrierMetrics {
    labels: ServiceLabels,
    /// Events that the broker acknowledged.
    pub published: Counter,
    /// Resets that the broker acknowledged.
    pub resets: Counter,
    families: CarrierFamilies,
}

/// How far a broker is behind the log of a service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CarrierLag {
    /// The events that the broker does not have, and the age of the oldest of them in seconds; `None` before it was
    /// asked.
    pub behind: Option<(i64, f64)>,
    /// The time since the broker last answered, in seconds.
    pub answered: f64,
}

impl CarrierMetrics {
    /// Sets the lag. Only the process that passes the events on knows it.
    pub fn set(&self, lag: CarrierLag) {
        if let Some((events, seconds)) = lag.behind {
            self.families.lag_events.get_or_create(&self.labels).set(events);
            self.families.lag_seconds.get_or_create(&self.labels).set(seconds);
        }
        self.families.last_answer.get_or_create(&self.labels).set(lag.answered);
    }

    /// Removes the series of the lag: another process passes the events on now.
    pub fn remove(&self) {
        self.families.lag_events.remove(&self.labels);
        self.families.lag_seconds.remove(&self.labels);
        self.families.last_answer.remove(&self.labels);
    }
}

//! A histogram that is updated without a lock: the one of `prometheus-client` has a lock that all cores share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds in seconds: from a call in memory to a slow call of a person. The last bucket has no bound.
const BOUNDS: [f64; 15] =
    [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, f64::INFINITY];

/// Durations by size. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    buckets: [AtomicU64; BOUNDS.len()],
    nanos: AtomicU64,
}

impl Histogram {
    pub(super) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.0.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.0.nanos.fetch_add(duration.as_nanos() as u64, Ordering::Relaxed);
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        let counts: [_; BOUNDS.len()] = std::array::from_fn(|at| self.0.buckets[at].load(Ordering::Relaxed));
        let buckets: Vec<_> = BOUNDS.into_iter().zip(counts).collect();
        let sum = Duration::from_nanos(self.0.nanos.load(Ordering::Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    #[test]
    fn histogram_ends_with_the_bucket_that_has_no_bound() {
        let (histogram, mut registry, mut page) = (Histogram::default(), Registry::default(), String::new());
        registry.register("seconds", "Durations", histogram.clone());
        for millis in [1, 300, 60_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        text::encode(&mut page, &registry).unwrap();
        for line in [
            "seconds_sum 60.301",
            "seconds_count 3",
            r#"seconds_bucket{le="0.0005"} 0"#,
            r#"seconds_bucket{le="0.001"} 1"#,
            r#"seconds_bucket{le="10.0"} 2"#,
            r#"seconds_bucket{le="+Inf"} 3"#,
        ] {
            assert!(page.lines().any(|found| found == line), "no {line} in\n{page}");
        }
    }
}

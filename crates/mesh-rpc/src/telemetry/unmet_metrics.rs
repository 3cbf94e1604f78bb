//! The calls and events between the builds of this process and those of peers that do not fit. The gate of releases
//! finds them; `/metrics` and the inspect API read them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_proto::mesh::inspect::v1::UnmetCall;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

const HELP: &str = "Calls and events between this build and those of a peer that do not fit.";

/// What does not fit. Cheap to clone; empty until the gate has looked.
#[derive(Clone, Debug, Default)]
pub(super) struct UnmetMetrics(Arc<Mutex<Vec<UnmetCall>>>);

impl UnmetMetrics {
    /// Replaces what was found before.
    pub(super) fn set(&self, found: Vec<UnmetCall>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    pub(super) fn get(&self) -> Vec<UnmetCall> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Collector for UnmetMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let found = self.get();
        // Several callers may call one method.
        let series: BTreeSet<_> = found.iter().map(|call| (&*call.peer, &*call.method)).collect();
        let mut family = encoder.encode_descriptor("mesh_release_unmet", HELP, None, MetricType::Gauge)?;
        for (peer, method) in series {
            family.encode_family(&[("peer", peer), ("method", method)])?.encode_gauge(&1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Exposition, Metrics};

    #[test]
    fn unmet_calls_of_one_method_are_one_series() {
        let metrics = Metrics::new();
        let call = |caller: &str, peer: &str| UnmetCall {
            caller: caller.to_owned(),
            peer: peer.to_owned(),
            method: "depot.v1.Depot/Sum".to_owned(),
            ..UnmetCall::default()
        };
        let series = || {
            let page = metrics.render(Exposition::Text);
            page.lines().filter(|line| line.starts_with("mesh_release_unmet{")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(series().is_empty());
        metrics.set_unmet(vec![call("shop", "depot"), call("front", "depot"), call("shop", "annex")]);
        let expected = ["annex", "depot"]
            .map(|peer| format!(r#"mesh_release_unmet{{peer="{peer}",method="depot.v1.Depot/Sum"}} 1"#));
        assert_eq!((series(), metrics.unmet().len()), (expected.to_vec(), 3));
        metrics.set_unmet(Vec::new());
        assert!(series().is_empty());
    }
}

//! The metrics of the issuers of tokens. They are read when the page is: the age of keys grows by itself.

use std::fmt;

use mesh_token::{Freshness, Tokens};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

/// The issuers of a process.
#[derive(Debug)]
pub(super) struct Issuers(pub(super) Tokens);

impl Collector for Issuers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.freshness();
        let mut gauge = |name, help, value: fn(&Freshness) -> Option<f64>| {
            let mut gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for one in &all {
                // An issuer is a label, since the configuration bounds their number.
                let Some(value) = value(one) else { continue };
                gauge.encode_family(&[("issuer", one.issuer.as_str())])?.encode_gauge(&value)?;
            }
            Ok(())
        };
        gauge("mesh_issuer_keys", "Keys of an issuer in use", |one| Some(one.keys as f64))?;
        let failing = "Whether the last attempt to read the keys of an issuer has failed";
        gauge("mesh_issuer_failing", failing, |one| Some(f64::from(u8::from(one.error.is_some()))))?;
        let age = "Time since the keys of an issuer were read";
        gauge("mesh_issuer_keys_age_seconds", age, |one| one.age.map(|age| age.as_secs_f64()))
    }
}

//! The keys that say where spans go.

use http::Uri;

use super::settings::Settings;

/// A collector of spans.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// Where it takes OTLP over gRPC: `http://host:port`.
    pub endpoint: String,
    /// The share of the traces that begin here which is exported. 0 to 1.
    pub ratio: f64,
}

const ENDPOINT: &str = "where a collector takes OTLP over gRPC, such as http://127.0.0.1:4317 (https is not supported)";
const RATIO: &str = "a number from 0 to 1, such as 0.1";

/// Reads `otlp.endpoint` and `otlp.ratio`; `None` if spans go nowhere.
///
/// The standard `OTEL_EXPORTER_OTLP_ENDPOINT` is not asked: it does not say which of OTLP's protocols its port speaks,
/// and what decides over this process is said in one place.
pub(super) fn take(settings: &mut Settings) -> Option<Otlp> {
    let endpoint = settings.take("otlp.endpoint", ENDPOINT, parse_endpoint);
    let ratio = settings.take("otlp.ratio", RATIO, parse_ratio).unwrap_or(1.0);
    Some(Otlp { endpoint: endpoint?, ratio })
}

fn parse_endpoint(text: &str) -> Option<String> {
    let uri: Uri = text.parse().ok()?;
    let plain = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/") && uri.query().is_none();
    let host = uri.host().is_some_and(|host| !host.is_empty()) && !uri.authority()?.as_str().contains('@');
    // Not the port of HTTP because somebody forgot that of the collector.
    (plain && host && uri.port_u16().is_some()).then(|| text.to_owned())
}

fn parse_ratio(text: &str) -> Option<f64> {
    text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{load, problems};
    use super::*;
    use crate::service::Service;

    #[test]
    fn without_an_endpoint_spans_go_nowhere() {
        let otlp = |arguments: &[&str]| load(Service::new("catalog", &[]), arguments, &[]).unwrap().otlp;
        assert!(otlp(&["--set=otlp.ratio=0.5"]).is_none());
        let configured = otlp(&["--set=otlp.endpoint=http://collector:4317", "--set=otlp.ratio=0.5"]).unwrap();
        assert_eq!((&*configured.endpoint, configured.ratio), ("http://collector:4317", 0.5));
    }

    #[test]
    fn what_cannot_be_an_endpoint_is_refused() {
        for wrong in
            ["a:1", "https://a:1", "http://", "http://a", "http://u@a:1", "http://a:1/v1/traces", "http://a:1?b"]
        {
            assert_eq!(parse_endpoint(wrong), None, "{wrong}");
        }
        assert!(parse_endpoint("http://[::1]:4317/").is_some());
        assert!(problems(&["--set=otlp.endpoint=https://collector"], &[])[0].contains("https is not supported"));
        for wrong in ["-0.1", "1.1", "NaN", "half"] {
            assert_eq!(parse_ratio(wrong), None, "{wrong}");
        }
    }
}

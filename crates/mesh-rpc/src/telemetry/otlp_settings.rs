//! The settings of the collector: `otlp.endpoint` and `otlp.ratio`.

use http::Uri;

use mesh_runtime::settings::{Key, Settings, Source};

/// The collector of spans.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// The endpoint for OTLP over gRPC: `http://host:port`.
    pub endpoint: String,
    /// The exported share of the traces that start in this process. 0 to 1.
    pub ratio: f64,
}

const ENDPOINT: &str = "where a collector takes OTLP over gRPC, such as http://127.0.0.1:4317 (https is not supported)";
const RATIO: &str = "a number from 0 to 1, such as 0.1";

impl Otlp {
    /// Reads `otlp.endpoint` and `otlp.ratio`; `None` if no endpoint is set. Without the key, the variables of
    /// OpenTelemetry for it are read, unless they ask for no traces, or for another protocol than gRPC.
    pub fn take(settings: &mut Settings) -> Option<Self> {
        if settings.source("otlp.endpoint").is_none()
            && let Some((variable, endpoint)) = standard(settings)
        {
            settings.set("otlp.endpoint", &endpoint, Source::Variable(variable.to_owned()));
        }
        let endpoint = settings.optional(&Key::new("otlp.endpoint", ENDPOINT), parse_endpoint);
        let ratio = settings.take(&Key::new("otlp.ratio", RATIO), 1.0, parse_ratio);
        Some(Self { endpoint: endpoint?, ratio })
    }
}

/// The variables of OpenTelemetry for the collector. That of traces wins.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// The endpoint of OpenTelemetry's variables, and the one that has it. Other programs may read them, too: one that this
/// process cannot use is no mistake.
fn standard(settings: &Settings) -> Option<(&'static str, String)> {
    let of_traces = |traces, all| settings.otel(traces).or_else(|| settings.otel(all));
    let is =
        |variable, accepted: &str| settings.otel(variable).is_none_or(|value| value.eq_ignore_ascii_case(accepted));
    let protocol = of_traces("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL");
    if !is("OTEL_SDK_DISABLED", "false")
        || !is("OTEL_TRACES_EXPORTER", "otlp")
        || protocol.is_some_and(|protocol| protocol != "grpc")
    {
        return None;
    }
    let found = ENDPOINTS.into_iter().find_map(|variable| Some((variable, settings.otel(variable)?)));
    found.and_then(|(variable, endpoint)| Some((variable, parse_endpoint(endpoint)?)))
}

/// The variable of OpenTelemetry that names a collector, for a process that exports nothing.
pub(super) fn unused() -> Option<&'static str> {
    ENDPOINTS.into_iter().find(|variable| std::env::var_os(variable).is_some_and(|value| !value.is_empty()))
}

fn parse_endpoint(text: &str) -> Option<String> {
    let uri: Uri = text.parse().ok()?;
    let plain = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/") && uri.query().is_none();
    let host = uri.host().is_some_and(|host| !host.is_empty()) && !uri.authority()?.as_str().contains('@');
    // A missing port is an error: port 80 is hardly ever a collector.
    (plain && host && uri.port_u16().is_some()).then(|| text.to_owned())
}

fn parse_ratio(text: &str) -> Option<f64> {
    text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> (Option<Otlp>, usize) {
        let mut settings = Settings::default();
        set.iter().for_each(|(key, value)| settings.set(key, value, Source::Flag("--set".to_owned())));
        let otlp = Otlp::take(&mut settings);
        let problems = match settings.finish() {
            Err(mesh_runtime::settings::Error::Invalid(problems)) => problems.len(),
            _ => 0,
        };
        (otlp, problems)
    }

    #[test]
    fn otlp_is_off_without_an_endpoint() {
        assert!(read(&[("otlp.ratio", "0.5")]).0.is_none());
        let (configured, _) = read(&[("otlp.endpoint", "http://collector:4317"), ("otlp.ratio", "0.5")]);
        let configured = configured.unwrap();
        assert_eq!((&*configured.endpoint, configured.ratio), ("http://collector:4317", 0.5));
    }

    #[test]
    fn otlp_reads_the_variables_of_opentelemetry_behind_its_own_key() {
        let read = |key: Option<&str>, variables: &[(&str, &str)]| {
            let mut settings = Settings::default();
            settings.read_environment(variables.iter().map(|(name, value)| (name.into(), value.into())));
            if let Some(key) = key {
                settings.set("otlp.endpoint", key, Source::Default);
            }
            Otlp::take(&mut settings).map(|otlp| otlp.endpoint)
        };
        let (all, traces) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let (a, b) = ("http://a:4317", "http://b:4317");
        for (key, variables, expected) in [
            (None, &[(all, a)][..], Some(a)),
            (None, &[(all, a), (traces, b)], Some(b)),
            (Some(b), &[(all, a), (traces, a)], Some(b)),
            (None, &[(all, "")], None),
            // Of no use here, and perhaps to other programs.
            (None, &[(all, "https://a:4317")], None),
            (None, &[(all, a), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], Some(a)),
            (None, &[(all, a), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")], None),
            (
                None,
                &[
                    (all, a),
                    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
                    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
                ],
                Some(a),
            ),
            (None, &[(all, a), ("OTEL_SDK_DISABLED", "true")], None),
            (None, &[(all, a), ("OTEL_TRACES_EXPORTER", "none")], None),
            (None, &[(all, a), ("OTEL_TRACES_EXPORTER", "otlp")], Some(a)),
        ] {
            assert_eq!(read(key, variables).as_deref(), expected, "{key:?} {variables:?}");
        }
    }

    #[test]
    fn otlp_rejects_an_invalid_endpoint() {
        for wrong in
            ["a:1", "https://a:1", "http://", "http://a", "http://u@a:1", "http://a:1/v1/traces", "http://a:1?b"]
        {
            assert_eq!(parse_endpoint(wrong), None, "{wrong}");
        }
        assert!(parse_endpoint("http://[::1]:4317/").is_some());
        assert_eq!(read(&[("otlp.endpoint", "https://collector")]).1, 1);
        assert!(ENDPOINT.contains("https is not supported"));
        for wrong in ["-0.1", "1.1", "NaN", "half"] {
            assert_eq!(parse_ratio(wrong), None, "{wrong}");
        }
    }
}

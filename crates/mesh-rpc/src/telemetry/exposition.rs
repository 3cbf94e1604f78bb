//! The two formats of `/metrics`, and which one a request gets.
//!
//! The registry writes [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/). The older
//! [text format 0.0.4](https://prometheus.io/docs/instrumenting/exposition_formats/), which everything reads, is the default:
//! there a counter has `_total` in the name of its family, and an info is a gauge.

/// A format of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Exposition {
    /// The format for the header `accept`: OpenMetrics if it is asked for by name, and not less than text.
    pub fn of(accept: &str) -> Self {
        let (mut open, mut text) = (0.0, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut version) = (1.0, None);
            for (key, value) in parts.filter_map(|part| part.split_once('=')) {
                match key.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = value.trim().parse().unwrap_or(0.0),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            match name.as_str() {
                "application/openmetrics-text" if version.is_none_or(|version| version == "1.0.0") => {
                    open = f64::max(open, quality);
                }
                "text/plain" if version.is_none_or(|version| version == "0.0.4") => text = f64::max(text, quality),
                _ => {}
            }
        }
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Text }
    }

    /// The media type of the page.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The page in this format, from one in OpenMetrics.
    pub(super) fn page(self, open: String) -> String {
        match self {
            Self::OpenMetrics => open,
            Self::Text => text(&open),
        }
    }
}

fn text(open: &str) -> String {
    let mut page = String::with_capacity(open.len());
    let mut push = |parts: [&str; 3]| {
        parts.iter().for_each(|part| page.push_str(part));
        page.push('\n');
    };
    // The help comes before the type, on which its name depends.
    let mut help = None;
    for line in open.lines() {
        let described = |prefix| line.strip_prefix(prefix).and_then(|rest: &str| rest.split_once(' '));
        if let Some(described) = described("# HELP ") {
            help = Some(described);
        } else if let Some((name, kind)) = described("# TYPE ") {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            let name = format!("{name}{suffix}");
            if let Some((_, help)) = help.take() {
                push(["# HELP ", &name, &format!(" {help}")]);
            }
            push(["# TYPE ", &name, &format!(" {kind}")]);
        } else if !line.starts_with('#') {
            push([line, "", ""]);
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_those_who_ask_for_it() {
        for (accept, open) in [
            ("", false),
            ("*/*", false),
            ("text/html,application/xhtml+xml,*/*;q=0.8", false),
            ("text/plain", false),
            ("application/openmetrics-text", true),
            ("Application/OpenMetrics-Text; Version=1.0.0", true),
            ("application/openmetrics-text; version=\"1.0.0\"; escaping=allow-utf-8", true),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=nonsense", false),
            ("application/openmetrics-text;q=0.4,text/plain;q=0.5", false),
            ("application/openmetrics-text;q=0.5,text/plain;version=0.0.4;q=0.5", true),
            ("application/openmetrics-text; version=2.0.0", false),
            // Prometheus 2.42.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                true,
            ),
            // Prometheus 3, without and with native histograms.
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,/;q=0.1",
                true,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                false,
            ),
        ] {
            assert_eq!(Exposition::of(accept) == Exposition::OpenMetrics, open, "{accept}");
        }
    }

    #[test]
    fn text_names_counters_and_infos_as_its_samples() {
        let open = "# HELP a How many.\n# TYPE a counter\na_total{b=\"c # d\"} 1\n# HELP e The build.\n# TYPE e info\n\
                    e_info{v=\"1\"} 1\n# HELP s Times.\n# TYPE s histogram\n# UNIT s seconds\ns_sum 0.5\n# EOF\n";
        let expected = "# HELP a_total How many.\n# TYPE a_total counter\na_total{b=\"c # d\"} 1\n# HELP e_info The build.\n\
                        # TYPE e_info gauge\ne_info{v=\"1\"} 1\n# HELP s Times.\n# TYPE s histogram\ns_sum 0.5\n";
        assert_eq!(text(open), expected);
    }
}

//! `/metrics`: its two formats, the rules of `promtool check metrics`, and what is there before anything happened.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use harness::Process;

const OPEN_METRICS: &str = "accept: application/openmetrics-text; version=1.0.0, text/plain;q=0.5\r\n";

/// The content type and the page.
fn metrics(process: &Process, headers: &str) -> (String, String) {
    let answer = process.http_with("/metrics", headers);
    let (head, page) = answer.split_once("\r\n\r\n").expect("a body");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).expect("a type");
    (kind.to_owned(), page.to_owned())
}

/// The value of a series.
fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// What `promtool check metrics` would say of a page in text format 0.0.4, for the kinds of metrics that are here.
fn mistakes(page: &str) -> Vec<String> {
    let (mut help, mut kinds, mut series) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
    let mut found = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            found.push(what);
        }
    };
    for line in page.lines() {
        if let Some((name, text)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            must(!text.is_empty() && help.insert(name), format!("{name} has no help, or twice"));
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            must(help.contains(name), format!("{name} has no help text before its type"));
            must(kinds.insert(name, kind).is_none(), format!("{name} is described twice"));
            let named = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            must(named, format!("{name} has other characters than a-z, 0-9 and _"));
            must(["counter", "gauge", "histogram"].contains(&kind), format!("{name} is a {kind}"));
            must(
                (kind == "counter") == name.ends_with("_total"),
                format!("{name} is a {kind}: only counters end in _total"),
            );
            let reserved = ["_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end));
            must(!reserved, format!("{name} has an end that is reserved"));
            let unit = ["_ms", "_milliseconds", "_minutes", "_hours", "_days", "_kilobytes", "_percent"];
            must(!unit.iter().any(|unit| name.contains(unit)), format!("{name} is in no base unit"));
        } else if line.starts_with('#') {
            must(false, format!("a comment that is neither help nor type: {line}"));
        } else {
            let (full, value) = line.rsplit_once(' ').expect("a value");
            must(series.insert(full), format!("{full} is there twice"));
            must(value.parse::<f64>().is_ok(), format!("{full} has the value {value}"));
            let name = full.split('{').next().expect("a name");
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end).filter(|family| kinds.get(family) == Some(&"histogram")));
            must(kinds.contains_key(family.unwrap_or(name)), format!("{name} has no type"));
        }
    }
    found
}

#[test]
fn metrics_have_the_format_that_is_asked_for() {
    let process = Process::start("monolith", &[]);
    for headers in ["", "accept: */*\r\n", "accept: text/html\r\n", "accept: text/plain;version=0.0.4\r\n"] {
        let (kind, page) = metrics(&process, headers);
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8", "{headers}");
        assert!(page.contains("\n# TYPE grpc_server_handled_total counter\n") && !page.contains("# EOF"), "{page}");
    }
    let (kind, page) = metrics(&process, OPEN_METRICS);
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(page.contains("\n# TYPE grpc_server_handled counter\n") && page.ends_with("\n# EOF\n"), "{page}");
}

#[test]
fn metrics_follow_the_rules_of_prometheus() {
    let process = Process::start("monolith", &[]);
    assert!(process.http("/nothing").starts_with("HTTP/1.1 404"));
    let (_, page) = metrics(&process, "");
    let found = mistakes(&page);
    assert!(found.is_empty(), "{found:#?}");
    // The same series in both formats; those of the process's background work may begin between the two pages.
    let (_, open) = metrics(&process, OPEN_METRICS);
    let names = |page: &str| -> BTreeSet<String> {
        let samples = page.lines().filter(|line| line.starts_with("grpc_server_") || line.starts_with("process_"));
        samples.map(|line| line.rsplit_once(' ').expect("a value").0.to_owned()).collect()
    };
    let (text, open) = (names(&page), names(&open));
    let differ: Vec<_> = text.symmetric_difference(&open).collect();
    assert!(differ.is_empty() && text.len() > 50, "{differ:?}");
}

#[test]
fn mistakes_of_a_page_are_found() {
    let right = "# HELP a_total A.\n# TYPE a_total counter\na_total{b=\"c\"} 1\n# HELP s S.\n# TYPE s histogram\n\
                 s_bucket{le=\"+Inf\"} 1\ns_sum 0.5\ns_count 1\n";
    assert_eq!(mistakes(right), [""; 0]);
    for (from, to) in [
        ("# HELP a_total A.\n", ""),
        ("# TYPE a_total counter", "# TYPE a counter"),
        ("a_total{b=\"c\"} 1\n", "a_total{b=\"c\"} 1\na_total{b=\"c\"} 2\n"),
        ("s_sum 0.5", "s_sum much"),
        ("s_count 1\n", "s_count 1\n# EOF\n"),
        ("s_count 1\n", "t_count 1\n"),
        ("# TYPE s histogram", "# TYPE s gauge"),
    ] {
        assert_ne!(mistakes(&right.replace(from, to)), [""; 0], "{from:?} as {to:?}");
    }
}

/// A rate needs a first value, and an alert a series.
#[test]
fn metrics_are_there_before_their_first_event() {
    let process = Process::start("monolith", &[]);
    let (_, page) = metrics(&process, "");
    let method = "grpc_service=\"grpc.health.v1.Health\",grpc_method=\"Check\"";
    for code in ["OK", "NotFound", "Internal", "Unavailable"] {
        assert_eq!(
            value(&page, &format!("grpc_server_handled_total{{{method},grpc_code=\"{code}\"}}")),
            Some(0.0),
            "{code}"
        );
    }
    for series in ["grpc_server_handling_seconds_count", "grpc_server_in_flight", "grpc_server_shed_total"] {
        assert_eq!(value(&page, &format!("{series}{{{method}}}")), Some(0.0), "{series}");
    }
}

#[test]
fn metrics_of_the_process_itself_are_there() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let before = now();
    let process = Process::start("monolith", &[]);
    let (_, page) = metrics(&process, "");
    let start = value(&page, "process_start_time_seconds").expect("a start");
    // Both clocks are that of this machine.
    assert!(before - 1.0 <= start && start <= now() + 1.0, "{before} {start}");
    assert!(value(&page, "process_cpu_seconds_total").is_some_and(|cpu| cpu > 0.0));
    if cfg!(target_os = "linux") {
        for (name, least) in [
            ("process_resident_memory_bytes", 1e6),
            ("process_virtual_memory_bytes", 1e6),
            ("process_threads", 1.0),
            ("process_open_fds", 5.0),
            ("process_max_fds", 10.0),
        ] {
            assert!(value(&page, name).is_some_and(|value| value >= least), "{name} in\n{page}");
        }
    }
}

//! Processes that pass calls on or answer them, and record what they receive.

use std::net::SocketAddr;
use std::time::Duration;

use harness::Process;

/// A hop that passes calls on to these addresses.
pub(crate) fn to(next: &[SocketAddr]) -> Process {
    to_with(next, &[])
}

/// Like [`to`], with more of a configuration.
pub(crate) fn to_with(next: &[SocketAddr], environment: &[(&str, &str)]) -> Process {
    let next: Vec<_> = next.iter().map(SocketAddr::to_string).collect();
    let next = next.join(",");
    let registry = [("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &*next)];
    Process::start("hop", &[&registry, environment].concat())
}

/// A hop that answers after this many seconds.
pub(crate) fn answering(seconds: &str) -> Process {
    Process::start("hop", &[("HOP_DOES", "answer"), ("HOP_TAKES", seconds)])
}

/// Longer than any deadline.
pub(crate) const NEVER: &str = "3600";

/// A hop that answers UNAVAILABLE at once.
pub(crate) fn refusing() -> Process {
    Process::start("hop", &[("HOP_DOES", "refuse")])
}

/// One record of a hop.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Time since 1970, by the clock that all processes of this machine share.
    pub(crate) at: Duration,
    pub(crate) method: String,
    pub(crate) event: Event,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Event {
    /// The call arrived, with this much time left.
    Begun(Option<Duration>),
    Ended,
    /// The caller disconnected, or the deadline passed.
    Dropped,
}

/// All records of a hop.
pub(crate) fn seen(hop: &Process) -> Vec<Seen> {
    let text = std::fs::read_to_string(hop.folder.path().join("calls")).expect("the hop's records");
    text.lines().map(|line| parse(line).unwrap_or_else(|| panic!("not a record of a hop: {line}"))).collect()
}

fn parse(line: &str) -> Option<Seen> {
    let words: Vec<_> = line.split(' ').collect();
    let [at, method, event, budget] = words[..] else { return None };
    let micros = |text: &str| text.parse().ok().map(Duration::from_micros);
    let event = match event {
        "begun" => Event::Begun(micros(budget)),
        "ended" => Event::Ended,
        "dropped" => Event::Dropped,
        _ => return None,
    };
    Some(Seen { at: micros(at)?, method: method.to_owned(), event })
}

/// The number of calls of a method that arrived at a hop.
pub(crate) fn attempts(hop: &Process, method: &str) -> usize {
    seen(hop).iter().filter(|seen| seen.method == method && matches!(seen.event, Event::Begun(_))).count()
}

/// The sum of a metric over all its labels.
pub(crate) fn metric(process: &Process, name: &str) -> u64 {
    let metrics = process.http("/metrics");
    let values = metrics.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit_once(' '));
    values.map(|(_, value)| value.parse::<u64>().expect("a count")).sum()
}

/// Whether the caller has ejected an endpoint, or discovery has taken the endpoint away before a call went there.
pub(crate) fn has_left_out(caller: &Process, endpoint: SocketAddr) -> bool {
    has_ejected(caller, endpoint) || !caller.http("/metrics").contains(&endpoint.to_string())
}

/// Whether the caller has logged that it ejects an endpoint.
pub(crate) fn has_ejected(caller: &Process, endpoint: SocketAddr) -> bool {
    let endpoint = endpoint.to_string();
    caller.log().lines().any(|line| line.contains("not called for a while") && line.contains(&endpoint))
}

//! Processes that pass calls on, or answer them, and write down what they see.

use std::net::SocketAddr;
use std::time::Duration;

use harness::Process;

/// Passes calls on to these addresses.
pub(crate) fn to(next: &[SocketAddr]) -> Process {
    to_with(next, &[])
}

/// The same with more of a configuration.
pub(crate) fn to_with(next: &[SocketAddr], environment: &[(&str, &str)]) -> Process {
    let next: Vec<_> = next.iter().map(SocketAddr::to_string).collect();
    let next = next.join(",");
    let registry = [("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &*next)];
    Process::start("hop", &[&registry, environment].concat())
}

/// Answers after a while.
pub(crate) fn answering(seconds: &str) -> Process {
    Process::start("hop", &[("HOP_DOES", "answer"), ("HOP_TAKES", seconds)])
}

/// Longer than anybody waits.
pub(crate) const NEVER: &str = "3600";

/// Answers UNAVAILABLE at once.
pub(crate) fn refusing() -> Process {
    Process::start("hop", &[("HOP_DOES", "refuse")])
}

/// What a hop has seen of a call.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Since 1970, by the clock that all processes of this machine share.
    pub(crate) at: Duration,
    pub(crate) method: String,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum What {
    /// It came, with so much time.
    Begun(Option<Duration>),
    Ended,
    /// Its caller went away, or its time was over.
    Dropped,
}

/// All that a hop has seen.
pub(crate) fn seen(hop: &Process) -> Vec<Seen> {
    let text = std::fs::read_to_string(hop.folder.path().join("calls")).expect("what it has seen");
    text.lines().map(|line| parse(line).unwrap_or_else(|| panic!("not what a hop writes: {line}"))).collect()
}

fn parse(line: &str) -> Option<Seen> {
    let words: Vec<_> = line.split(' ').collect();
    let [at, method, what, budget] = words[..] else { return None };
    let micros = |text: &str| text.parse().ok().map(Duration::from_micros);
    let what = match what {
        "begun" => What::Begun(micros(budget)),
        "ended" => What::Ended,
        "dropped" => What::Dropped,
        _ => return None,
    };
    Some(Seen { at: micros(at)?, method: method.to_owned(), what })
}

/// How often a method has been called at a hop.
pub(crate) fn attempts(hop: &Process, method: &str) -> usize {
    seen(hop).iter().filter(|seen| seen.method == method && matches!(seen.what, What::Begun(_))).count()
}

/// The sum of a metric over all its labels.
pub(crate) fn metric(process: &Process, name: &str) -> u64 {
    let metrics = process.http("/metrics");
    let values = metrics.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit_once(' '));
    values.map(|(_, value)| value.parse::<u64>().expect("a count")).sum()
}

/// Whether it has written that it leaves an endpoint out.
pub(crate) fn leaves_out(caller: &Process, endpoint: SocketAddr) -> bool {
    let endpoint = endpoint.to_string();
    caller.log().lines().any(|line| line.contains("not called for a while") && line.contains(&endpoint))
}

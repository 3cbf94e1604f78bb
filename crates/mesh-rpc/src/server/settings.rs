//! The settings of a listener: how long a drain takes, and under `limits` what callers may use of a process.

use std::num::NonZeroU64;
use std::time::Duration;

use mesh_runtime::settings::{Key, Settings, parse};

/// Below the 30 s after which Kubernetes kills a process, and below the 10 s that an operator waits.
const DRAIN_LIMIT: Duration = Duration::from_secs(8);
/// Two health checks with a second between them, as balancers make them, and the time of their answers.
const DRAIN_DELAY: Duration = Duration::from_secs(3);

/// How a process ends.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// The time of a drain, after which calls in flight are cut off. 0 s to 10 min.
    pub limit: Duration,
    /// The time at its beginning in which health reports NOT_SERVING and calls are served. 0 s to the limit.
    pub delay: Duration,
}

impl Drain {
    /// Reads `drain_limit` and `drain_delay`.
    pub fn take(settings: &mut Settings) -> Self {
        let limit = Key::new("drain_limit", "a time from 0s to 10min, such as 8s");
        let limit = settings.take(&limit, DRAIN_LIMIT, parse::time(Duration::ZERO, Duration::from_secs(600)));
        let delay = Key::new("drain_delay", "a time from 0s to drain_limit, such as 3s");
        // A short limit leaves half of its time to calls in flight.
        let default = DRAIN_DELAY.min(limit / 2);
        Self { limit, delay: settings.take(&delay, default, parse::time(Duration::ZERO, limit)) }
    }
}

/// The limits for callers of a process.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls from the network in flight, without streams. 1 to 100000.
    pub in_flight: usize,
    /// Streams from the network in flight. 1 to 1000000.
    pub streams: usize,
    /// Connections to the listener of the services, and as many to that of the edge. 1 to 1000000.
    pub connections: usize,
    /// The deadline of a call from the network without `grpc-timeout`; not of streams. 1 s to 1 h.
    pub unary_deadline: Duration,
    /// The age at which a connection is closed, within a tenth. 1 s to 24 h.
    pub connection_age: Duration,
    /// The grace period for streams of a connection at its age. 0 s to 1 h.
    pub connection_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // At 10 ms a call, 1000 calls in flight are 100,000 calls per second.
            in_flight: 1000,
            // An idle stream costs memory only.
            streams: 10_000,
            // A connection has several buffers, and one open file.
            connections: 10_000,
            // Longer than a request may take to arrive, so that its own limit applies first.
            unary_deadline: Duration::from_secs(120),
            // A new instance has its share of the connections after this time.
            connection_age: Duration::from_secs(30 * 60),
            connection_grace: Duration::from_secs(60),
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

impl Limits {
    /// Reads the settings under `limits`.
    pub fn take(settings: &mut Settings) -> Self {
        let default = Self::default();
        let in_flight = Key::new("limits.in_flight", "a number from 1 to 100000");
        let streams = Key::new("limits.streams", "a number from 1 to 1000000");
        let connections = Key::new("limits.connections", "a number from 1 to 1000000");
        let unary = Key::new("limits.unary_deadline", "a time from 1s to 1h, such as 2min");
        let age = Key::new("limits.connection_age", "a time from 1s to 24h, such as 30min");
        let grace = Key::new("limits.connection_grace", "a time from 0s to 1h, such as 1min");
        Self {
            in_flight: settings.take(&in_flight, default.in_flight, parse::number(1, 100_000)),
            streams: settings.take(&streams, default.streams, parse::number(1, 1_000_000)),
            connections: settings.take(&connections, default.connections, parse::number(1, 1_000_000)),
            unary_deadline: settings.take(&unary, default.unary_deadline, parse::time(Duration::from_secs(1), HOUR)),
            connection_age: settings.take(&age, default.connection_age, parse::time(Duration::from_secs(1), DAY)),
            connection_grace: settings.take(&grace, default.connection_grace, parse::time(Duration::ZERO, HOUR)),
        }
    }
}

/// The files that a process needs beside its connections: databases, calls to peers, the log, admin pages.
const RESERVED_FILES: u64 = 256;
/// Connections to `admin.listen`: probes and scrapers are few, and the dashboard bounds its pages. They are among the
/// reserved files.
const ADMIN_CONNECTIONS: usize = 64;

impl Limits {
    /// Connections to the listener of the admin pages, if it is another: crowded services leave them to probes.
    pub(super) fn admin_connections(self) -> usize {
        self.connections.min(ADMIN_CONNECTIONS)
    }

    /// Lowers `connections` to what each of some listeners of a process with `open_files` can hold, so that connections
    /// never take the files of databases. Half of a limit that is very small is reserved.
    #[must_use]
    pub fn within(mut self, open_files: Option<u64>, listeners: NonZeroU64) -> Self {
        let Some(open_files) = open_files else { return self };
        let most = (open_files.saturating_sub(RESERVED_FILES.min(open_files / 2)) / listeners).max(1);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if most < self.connections {
            tracing::warn!(
                open_files,
                connections = most,
                "the limit of open files (ulimit -n) is too low for limits.connections: fewer connections are accepted"
            );
            self.connections = most;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_runtime::settings::{Error, Source};

    fn read(set: &[(&str, &str)]) -> (Limits, Vec<String>) {
        let mut settings = Settings::default();
        set.iter().for_each(|(key, value)| settings.set(key, value, Source::Flag("--set".to_owned())));
        let limits = Limits::take(&mut settings);
        let problems = match settings.finish() {
            Err(Error::Invalid(problems)) => problems.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        };
        (limits, problems)
    }

    #[test]
    fn limits_have_defaults() {
        let (limits, _) = read(&[("limits.in_flight", "7"), ("limits.connection_grace", "0s")]);
        assert_eq!((limits.in_flight, limits.connection_grace), (7, Duration::ZERO));
        assert_eq!(limits.streams, Limits::default().streams);
    }

    #[test]
    fn limits_leave_files_for_databases() {
        let connections = |open_files| Limits::default().within(open_files, NonZeroU64::MIN).connections;
        assert_eq!(connections(None), 10_000);
        assert_eq!(connections(Some(1 << 20)), 10_000);
        assert_eq!(connections(Some(1024)), 768);
        assert_eq!(connections(Some(64)), 32);
        assert_eq!(connections(Some(1)), 1);
        let each = Limits::default().within(Some(1024), NonZeroU64::new(2).unwrap()).connections;
        assert_eq!(each, 384, "two listeners share the files");
    }

    #[test]
    fn limits_out_of_range_are_rejected() {
        for (key, wrong) in [
            ("limits.in_flight", ["0", "100001", "-1", "many"]),
            ("limits.streams", ["0", "1000001", "1.5", ""]),
            ("limits.connections", ["0", "1000001", "1.5", ""]),
            ("limits.unary_deadline", ["0s", "2h", "30", "never"]),
            ("limits.connection_age", ["0s", "25h", "30", "never"]),
            ("limits.connection_grace", ["2h", "-1s", "1", ""]),
        ] {
            for value in wrong {
                let (_, found) = read(&[(key, value)]);
                assert!(found.len() == 1 && found[0].contains(key), "{key}={value}: {found:?}");
            }
        }
    }
}

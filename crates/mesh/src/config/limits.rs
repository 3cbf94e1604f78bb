//! The keys that bound what callers may take of a process.

use std::time::Duration;

use super::settings::Settings;
use super::within;

/// What callers may take of a process.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls from the network at the same time, without streams. 1 to 100000.
    pub in_flight: usize,
    /// Streams from the network at the same time. 1 to 1000000.
    pub streams: usize,
    /// How old a connection gets, give or take a tenth. 1 s to 24 h.
    pub connection_age: Duration,
    /// How long the streams of a connection may go on when it is that old. 0 s to 1 h.
    pub connection_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A handler that takes ten milliseconds is asked a hundred thousand times a second then: no machine that is
            // well has as many in flight.
            in_flight: 1000,
            // A stream that waits costs some fifteen kilobytes.
            streams: 10_000,
            // What an operator waits for until a new instance has its share, and rare enough to cost nothing.
            connection_age: Duration::from_secs(30 * 60),
            connection_grace: Duration::from_secs(60),
        }
    }
}

/// In seconds.
const DAY: u64 = 24 * 3600;

/// Reads the keys under `limits`.
pub(super) fn take(settings: &mut Settings) -> Limits {
    let default = Limits::default();
    let in_flight = settings.take("limits.in_flight", "a number from 1 to 100000", count(100_000));
    let streams = settings.take("limits.streams", "a number from 1 to 1000000", count(1_000_000));
    let age = within(Duration::from_secs(1), DAY);
    let age = settings.take("limits.connection_age", "a time from 1s to 24h, such as 30min", age);
    let grace = within(Duration::ZERO, 3600);
    let grace = settings.take("limits.connection_grace", "a time from 0s to 1h, such as 1min", grace);
    Limits {
        in_flight: in_flight.unwrap_or(default.in_flight),
        streams: streams.unwrap_or(default.streams),
        connection_age: age.unwrap_or(default.connection_age),
        connection_grace: grace.unwrap_or(default.connection_grace),
    }
}

fn count(most: usize) -> impl Fn(&str) -> Option<usize> {
    move |text| text.parse().ok().filter(|number| (1..=most).contains(number))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{load, problems};
    use super::*;
    use crate::service::Service;

    #[test]
    fn what_is_not_said_is_the_default() {
        let settings = ["--set=limits.in_flight=7", "--set=limits.connection_grace=0s"];
        let limits = load(Service::new("catalog", &[]), &settings, &[]).unwrap().limits;
        assert_eq!((limits.in_flight, limits.connection_grace), (7, Duration::ZERO));
        assert_eq!(limits.streams, Limits::default().streams);
    }

    #[test]
    fn a_limit_of_nothing_or_without_end_is_a_mistake() {
        for (key, wrong) in [
            ("limits.in_flight", ["0", "100001", "-1", "many"]),
            ("limits.streams", ["0", "1000001", "1.5", ""]),
            ("limits.connection_age", ["0s", "25h", "30", "never"]),
            ("limits.connection_grace", ["2h", "-1s", "1", ""]),
        ] {
            for value in wrong {
                let found = problems(&[&format!("--set={key}={value}")], &[]);
                assert!(found.len() == 1 && found[0].contains(key), "{key}={value}: {found:?}");
            }
        }
    }
}

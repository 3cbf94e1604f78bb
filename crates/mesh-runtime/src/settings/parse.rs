//! Parsers for the values of keys. Each returns `None` for a value that is not allowed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The values that [`address`] allows.
pub const ADDRESS: &str = "an address such as 127.0.0.1:8080 (port 0 picks a free one)";

/// An IP address with a port.
pub fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

/// A path that is not empty.
pub fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| text.into())
}

/// A number from `least` to `most`, both included.
pub fn number<N: FromStr + PartialOrd>(least: N, most: N) -> impl Fn(&str) -> Option<N> {
    move |text| text.parse().ok().filter(|number| (&least..=&most).contains(&number))
}

/// The units that [`time`] reads, for the message about a value that is not allowed.
pub const TIME_UNITS: &str = "units ms, s, min or m, h, d, weeks, months, years";

/// A time from `least` to `most`, both included, in the format of [humantime](https://docs.rs/humantime): `8s`,
/// `30min`. Its unit `M`, a month, is refused: `m` is a minute, and the two are confused.
pub fn time(least: Duration, most: Duration) -> impl Fn(&str) -> Option<Duration> {
    move |text| {
        let time = humantime::parse_duration(text).ok().filter(|_| !text.contains('M'));
        time.filter(|time| (least..=most).contains(time))
    }
}

/// A size in bytes: a number with an optional unit (B, KiB, MiB, GiB), such as `16MiB`.
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// A size as [`bytes`] parses it, in the largest unit that gives a whole number.
pub fn show_bytes(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = units.into_iter().find(|(_, size)| bytes != 0 && bytes.is_multiple_of(*size));
    unit.map_or_else(|| bytes.to_string(), |(name, size)| format!("{}{name}", bytes / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip() {
        for size in [0, 1, 1000, 1024, 16 << 20, (16 << 20) + 1, 3 << 30] {
            assert_eq!(bytes(&show_bytes(size)), Some(size), "{}", show_bytes(size));
        }
        assert_eq!(show_bytes(16 << 20), "16MiB");
        for wrong in ["", "MiB", "1MB", "-1", "1.5MiB", "99999999999GiB"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn number_and_time_keep_their_bounds() {
        assert_eq!(["0", "1", "9", "10", "x"].map(number(1, 9)), [None, Some(1), Some(9), None, None]);
        let second = Duration::from_secs(1);
        assert_eq!(["0s", "1s", "3s", "1"].map(time(second, second * 2)), [None, Some(second), None, None]);
        let (minute, month) = (second * 60, Duration::from_secs(2_630_016));
        let within = time(second, month * 12);
        assert_eq!(["1m", "1min", "1month"].map(&within), [Some(minute), Some(minute), Some(month)]);
        assert_eq!(["1M", "1d 1M"].map(within), [None, None], "a month beside the `m` of a minute");
    }
}

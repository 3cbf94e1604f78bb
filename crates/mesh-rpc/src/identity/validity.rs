//! The end of a certificate. webpki checks it, and does not show it.
//!
//! See: [RFC 5280, 4.1.2.5](https://www.rfc-editor.org/rfc/rfc5280#section-4.1.2.5)

use std::time::{Duration, SystemTime};

const SEQUENCE: u8 = 0x30;
/// The explicit tag of the version, which may be absent.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When a certificate ends; `None` if it cannot be read.
pub(crate) fn not_after(certificate: &[u8]) -> Option<SystemTime> {
    let mut certificate = Reader(certificate).value(SEQUENCE)?;
    let mut signed = certificate.value(SEQUENCE)?;
    if signed.0.first() == Some(&VERSION) {
        signed.any()?;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        signed.any()?;
    }
    let mut validity = signed.value(SEQUENCE)?;
    validity.any()?;
    let (tag, time) = validity.any()?;
    let text = std::str::from_utf8(time.0).ok().filter(|text| text.is_ascii())?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        // Two digits are of 1950 to 2049.
        UTC_TIME if text.len() == 12 => {
            let year: u64 = text[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
        }
        GENERALIZED_TIME if text.len() == 14 => (text[..4].parse().ok()?, &text[4..]),
        _ => return None,
    };
    let number = |at: usize| rest.get(at..at + 2)?.parse::<u64>().ok();
    let days = days(year, number(0)?, number(2)?)?;
    let seconds = days * 86_400 + number(4)? * 3600 + number(6)? * 60 + number(8)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// The time left until `end`; zero if it has passed.
pub(crate) fn left(end: SystemTime) -> Duration {
    end.duration_since(SystemTime::now()).unwrap_or_default()
}

/// The days from 1970 to a date of the Gregorian calendar.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // The year begins in March, so that the leap day is its last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let of_years = year * 365 + year / 4 - year / 100 + year / 400;
    (of_years + (month * 153 + 2) / 5 + day - 1).checked_sub(719_468)
}

/// Values of DER, one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next value, with its tag.
    fn any(&mut self) -> Option<(u8, Self)> {
        let [tag, length, rest @ ..] = self.0 else { return None };
        let (length, rest) = match usize::from(*length) {
            short @ 0..0x80 => (short, rest),
            long => {
                let (bytes, rest) = rest.split_at_checked(long & 0x7f)?;
                // A certificate is shorter than 16 MiB.
                (bytes.len() <= 3).then_some(())?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, Reader(value)))
    }

    /// The next value, if it has this tag.
    fn value(&mut self, tag: u8) -> Option<Self> {
        self.any().filter(|(found, _)| *found == tag).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate of the fields that are read.
    fn certificate(tag: u8, end: &str) -> Vec<u8> {
        let value = |tag: u8, parts: &[&[u8]]| {
            let content = parts.concat();
            let mut value = vec![tag, 0x82];
            value.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
            value.extend(content);
            value
        };
        let validity = value(SEQUENCE, &[&value(UTC_TIME, &[b"200101000000Z"]), &value(tag, &[end.as_bytes()])]);
        let [version, serial, algorithm, issuer] = [VERSION, 2, SEQUENCE, SEQUENCE].map(|tag| value(tag, &[]));
        let signed = value(SEQUENCE, &[&version, &serial, &algorithm, &issuer, &validity]);
        value(SEQUENCE, &[&signed])
    }

    fn seconds(tag: u8, end: &str) -> Option<u64> {
        let end = not_after(&certificate(tag, end))?;
        Some(end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn not_after_is_read_in_both_forms() {
        assert_eq!(seconds(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(seconds(UTC_TIME, "261129172530Z"), Some(1_795_973_130));
        assert_eq!(seconds(GENERALIZED_TIME, "20240229235959Z"), Some(1_709_251_199));
        assert_eq!(seconds(GENERALIZED_TIME, "40961231235959Z"), Some(67_121_740_799));
    }

    #[test]
    fn not_after_of_what_is_no_certificate_is_none() {
        for (tag, end) in [
            (UTC_TIME, "261129172530"),
            (UTC_TIME, "20261129172530Z"),
            (GENERALIZED_TIME, "20261329172530Z"),
            (UTC_TIME, "é61129172530Z"),
            (4, "x"),
        ] {
            assert_eq!(seconds(tag, end), None, "{end}");
        }
        let whole = certificate(UTC_TIME, "261129172530Z");
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None, "{length} bytes");
        }
    }
}

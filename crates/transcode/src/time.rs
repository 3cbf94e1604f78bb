//! Timestamp and Duration: seconds and nanoseconds, and their text in JSON.

/// What a Timestamp or a Duration holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanos: i32,
}

/// 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z.
const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const DURATION_SECONDS: i64 = 315_576_000_000;
const NANOS: i32 = 1_000_000_000;
const DAY: i64 = 86_400;

/// Writes a Timestamp in RFC 3339, in UTC, without quotes. `false` if it is out of range.
pub(crate) fn write_timestamp(out: &mut Vec<u8>, time: Time) -> bool {
    if !TIMESTAMP_SECONDS.contains(&time.seconds) || !(0..NANOS).contains(&time.nanos) {
        return false;
    }
    let (year, month, day) = civil(time.seconds.div_euclid(DAY));
    let second = time.seconds.rem_euclid(DAY);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    digits(out, year, 4);
    for (separator, part) in [(b'-', month), (b'-', day), (b'T', hour), (b':', minute), (b':', second % 60)] {
        out.push(separator);
        digits(out, part, 2);
    }
    fraction(out, time.nanos.unsigned_abs());
    out.push(b'Z');
    true
}

/// Writes a Duration such as `-1.500s`, without quotes. `false` if it is out of range.
pub(crate) fn write_duration(out: &mut Vec<u8>, time: Time) -> bool {
    let signs_differ = (time.seconds > 0 && time.nanos < 0) || (time.seconds < 0 && time.nanos > 0);
    if time.seconds.abs_diff(0) > DURATION_SECONDS.unsigned_abs()
        || time.nanos.unsigned_abs() >= NANOS.unsigned_abs()
        || signs_differ
    {
        return false;
    }
    if time.seconds < 0 || time.nanos < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(itoa::Buffer::new().format(time.seconds.unsigned_abs()).as_bytes());
    fraction(out, time.nanos.unsigned_abs());
    out.push(b's');
    true
}

/// Reads a Timestamp: RFC 3339 with a time zone and at most nine digits of a second.
pub(crate) fn read_timestamp(text: &str) -> Option<Time> {
    let mut text = Text(text.as_bytes());
    let (year, month) = (text.number(4)?, text.after(b'-')?.number(2)?);
    let day = text.after(b'-')?.number(2)?;
    let (hour, minute) = (text.after(b'T')?.number(2)?, text.after(b':')?.number(2)?);
    let second = text.after(b':')?.number(2)?;
    let nanos = text.fraction()?;
    let offset = text.zone()?;
    let days_of_month = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days_of_month).contains(&day) || hour > 23 || minute > 59 || second > 59 || !text.0.is_empty() {
        return None;
    }
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset;
    TIMESTAMP_SECONDS.contains(&seconds).then_some(Time { seconds, nanos })
}

/// Reads a Duration: seconds with at most nine digits behind the point, and an `s`.
pub(crate) fn read_duration(text: &str) -> Option<Time> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let mut text = Text(text.as_bytes());
    let length = text.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=12).contains(&length) {
        return None;
    }
    let (seconds, nanos) = (text.number(length)?, text.fraction()?);
    if text.after(b's')?.0 != b"" || seconds > DURATION_SECONDS {
        return None;
    }
    Some(if negative { Time { seconds: -seconds, nanos: -nanos } } else { Time { seconds, nanos } })
}

struct Text<'a>(&'a [u8]);

impl Text<'_> {
    fn after(&mut self, expected: u8) -> Option<&mut Self> {
        self.0 = self.0.strip_prefix(&[expected])?;
        Some(self)
    }

    /// A number of exactly so many digits.
    fn number(&mut self, length: usize) -> Option<i64> {
        let (found, left) = self.0.split_at_checked(length)?;
        self.0 = left;
        found.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
    }

    /// The nanoseconds behind a point, if there is one.
    fn fraction(&mut self) -> Option<i32> {
        let Some(left) = self.0.strip_prefix(b".") else { return Some(0) };
        self.0 = left;
        let length = left.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&length) {
            return None;
        }
        let number = self.number(length)?;
        let nanos = (length..9).fold(number, |number, _| number * 10);
        i32::try_from(nanos).ok()
    }

    /// The seconds that a time zone is ahead of UTC.
    fn zone(&mut self) -> Option<i64> {
        let sign = match self.0.split_first()? {
            (b'Z', left) => {
                self.0 = left;
                return Some(0);
            }
            (b'+', _) => 1,
            (b'-', _) => -1,
            _ => return None,
        };
        self.0 = &self.0[1..];
        let (hours, minutes) = (self.number(2)?, self.after(b':')?.number(2)?);
        (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
    }
}

/// Zero, three, six or nine digits behind a point.
fn fraction(out: &mut Vec<u8>, nanos: u32) {
    let (value, length) = match nanos {
        0 => return,
        _ if nanos.is_multiple_of(1_000_000) => (nanos / 1_000_000, 3),
        _ if nanos.is_multiple_of(1_000) => (nanos / 1_000, 6),
        _ => (nanos, 9),
    };
    out.push(b'.');
    digits(out, i64::from(value), length);
}

/// A number in `length` digits, with zeros in front.
fn digits(out: &mut Vec<u8>, mut number: i64, length: usize) {
    let start = out.len();
    out.resize(start + length, b'0');
    for place in out[start..].iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// The days from 1970-01-01 to a date of the Gregorian calendar. Years begin in March, so the leap day is the last of
/// its year, and 400 years are a period.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

/// The date that lies so many days after 1970-01-01: the inverse of [`days`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (period, of_period) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let of_year = |year: i64| of_period - (year * 365 + year / 4 - year / 100);
    let guess = (of_period - of_period / 1_460 + of_period / 36_524 - of_period / 146_096) / 365;
    let month = (5 * of_year(guess) + 2) / 153;
    let day = of_year(guess) - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = guess + period * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(time: Time) -> Option<String> {
        let mut out = Vec::new();
        write_timestamp(&mut out, time).then(|| String::from_utf8(out).expect("ASCII"))
    }

    fn duration(seconds: i64, nanos: i32) -> Option<String> {
        let mut out = Vec::new();
        write_duration(&mut out, Time { seconds, nanos }).then(|| String::from_utf8(out).expect("ASCII"))
    }

    #[test]
    fn date_of_every_day_is_read_back() {
        let (first, last) = (days(1, 1, 1), days(9999, 12, 31));
        let mut yesterday = (0, 12, 31);
        for day in first..=last {
            let date = civil(day);
            assert!(date > yesterday, "{date:?} follows {yesterday:?}");
            assert_eq!(days(date.0, date.1, date.2), day);
            yesterday = date;
        }
        assert_eq!((first * DAY, last * DAY + DAY - 1), (*TIMESTAMP_SECONDS.start(), *TIMESTAMP_SECONDS.end()));
        assert_eq!(last - first + 1, 3_652_059);
    }

    #[test]
    fn timestamp_has_three_six_or_nine_digits() {
        let shown = |seconds, nanos| timestamp(Time { seconds, nanos });
        assert_eq!(shown(0, 0).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(shown(-1, 500_000_000).as_deref(), Some("1969-12-31T23:59:59.500Z"));
        assert_eq!(shown(951_782_400, 1_000).as_deref(), Some("2000-02-29T00:00:00.000001Z"));
        assert_eq!(shown(253_402_300_799, 999_999_999).as_deref(), Some("9999-12-31T23:59:59.999999999Z"));
        for (seconds, nanos) in [(253_402_300_800, 0), (-62_135_596_801, 0), (0, -1), (0, NANOS), (i64::MIN, 0)] {
            assert_eq!(shown(seconds, nanos), None, "{seconds} {nanos}");
        }
    }

    #[test]
    fn timestamp_is_read_in_any_time_zone() {
        let read = |text| read_timestamp(text).map(|time| (time.seconds, time.nanos));
        assert_eq!(read("1970-01-01T00:00:00Z"), Some((0, 0)));
        assert_eq!(read("1970-01-01T01:30:00.5+01:30"), Some((0, 500_000_000)));
        assert_eq!(read("1969-12-31T16:00:00-08:00"), Some((0, 0)));
        for bad in [
            "",
            "1970-01-01",
            "1970-01-01t00:00:00Z",
            "1970-01-01T00:00:00z",
            "1970-01-01T00:00:00",
            "1970-02-29T00:00:00Z",
            "1970-13-01T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:00:60Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00.1234567890Z",
            "10000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+00:01",
            "1970-01-01T00:00:00Z ",
            "1970-01-01T00:00:00+1:00",
            "1970-01-01T00:00:00é",
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn duration_keeps_its_sign() {
        assert_eq!(duration(0, 0).as_deref(), Some("0s"));
        assert_eq!(duration(0, -500_000_000).as_deref(), Some("-0.500s"));
        assert_eq!(duration(315_576_000_000, 1).as_deref(), Some("315576000000.000000001s"));
        for (seconds, nanos) in [(1, -1), (-1, 1), (315_576_000_001, 0), (0, NANOS), (i64::MIN, 0), (0, i32::MIN)] {
            assert_eq!(duration(seconds, nanos), None, "{seconds} {nanos}");
        }
        let read = |text| read_duration(text).map(|time| (time.seconds, time.nanos));
        assert_eq!(read("-1.5s"), Some((-1, -500_000_000)));
        assert_eq!(read("315576000000s"), Some((315_576_000_000, 0)));
        for bad in
            ["", "s", "1", "1.s", ".5s", "--1s", "+1s", "1s ", "315576000001s", "1.0000000001s", "9999999999999s"]
        {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}

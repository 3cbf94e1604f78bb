//! A regular expression for the decimals of a range of numbers.

/// The last number of a range without an end. That of an int64 would make the pattern unreadable.
const LAST: u64 = 9_219_999_999_999_999_999;

/// The decimals from `least` to `most`, without leading zeros. A range without an end ends near that of an int64.
pub(super) fn decimals(least: Option<i64>, most: Option<i64>) -> String {
    let (below, above) = (least.is_none_or(|least| least < 0), most.is_none_or(|most| most >= 0));
    let size = |number: Option<i64>| number.map_or(LAST, i64::unsigned_abs);
    let mut alternatives = Vec::new();
    if below {
        let nearest = if above { 1 } else { size(most) };
        alternatives.extend(natural(nearest, size(least)).into_iter().map(|pattern| format!("-{pattern}")));
    }
    if above {
        let first = if below { 0 } else { size(least) };
        alternatives.extend(natural(first, size(most)));
    }
    format!("^({})$", alternatives.join("|"))
}

/// Patterns for the numbers from `first` to `last`, by their number of digits.
fn natural(first: u64, last: u64) -> Vec<String> {
    let (short, long) = (first.to_string(), last.to_string());
    let (least, most) = (short.len(), long.len());
    if least == most {
        return same_length("", &short, &long);
    }
    let mut patterns = same_length("", &short, &"9".repeat(least));
    match most - least {
        0 | 1 => {}
        2 => patterns.push(format!("[1-9]{}", digits(least))),
        _ => patterns.push(format!("[1-9][0-9]{{{least},{}}}", most - 2)),
    }
    patterns.extend(same_length("", &format!("1{}", "0".repeat(most - 1)), &long));
    patterns
}

/// Patterns for the numbers from `first` to `last`, of as many digits each, behind `prefix`.
fn same_length(prefix: &str, first: &str, last: &str) -> Vec<String> {
    let (Some(low), Some(high)) = (first.bytes().next(), last.bytes().next()) else { return vec![prefix.to_owned()] };
    let (after_low, after_high) = (&first[1..], &last[1..]);
    let behind = |digit: u8| format!("{prefix}{}", char::from(digit));
    if low == high {
        return same_length(&behind(low), after_low, after_high);
    }
    // The first digits behind which all digits are allowed.
    let from = if after_low.bytes().all(|digit| digit == b'0') { low } else { low + 1 };
    let to = if after_high.bytes().all(|digit| digit == b'9') { high } else { high - 1 };
    let mut patterns = Vec::new();
    if from > low {
        patterns.extend(same_length(&behind(low), after_low, &"9".repeat(after_low.len())));
    }
    if from <= to {
        let range =
            if from == to { char::from(from).to_string() } else { format!("[{}-{}]", from as char, to as char) };
        patterns.push(format!("{prefix}{range}{}", digits(after_low.len())));
    }
    if to < high {
        patterns.extend(same_length(&behind(high), &"0".repeat(after_high.len()), after_high));
    }
    patterns
}

/// A pattern for any digits.
fn digits(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => "[0-9]".to_owned(),
        _ => format!("[0-9]{{{count}}}"),
    }
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::decimals;

    #[test]
    fn decimals_are_readable() {
        assert_eq!(decimals(Some(0), Some(1_000_000)), "^([0-9]|[1-9][0-9]{1,5}|1000000)$");
        assert_eq!(decimals(Some(1888), Some(2100)), "^(188[8-9]|189[0-9]|19[0-9]{2}|20[0-9]{2}|2100)$");
        let positive = "^([1-9]|[1-9][0-9]{1,17}|[1-8][0-9]{18}|9[0-1][0-9]{17}|92[0-1][0-9]{16})$";
        assert_eq!(decimals(Some(1), None), positive);
    }

    #[test]
    fn decimals_match_the_numbers_of_their_range_only() {
        let ends = [0, 1, 7, 9, 10, 11, 19, 20, 99, 100, 105, 190, 345, 999, 1000];
        let ends = ends.into_iter().flat_map(|end: i64| [end, -end]).collect::<Vec<_>>();
        for (least, most) in ends.iter().flat_map(|least| ends.iter().map(move |most| (*least, *most))) {
            if least > most {
                continue;
            }
            let pattern = Regex::new(&decimals(Some(least), Some(most))).expect("a pattern");
            for number in -1101..=1101_i64 {
                let within = (least..=most).contains(&number);
                assert_eq!(pattern.is_match(&number.to_string()), within, "{number} and {pattern}");
            }
        }
    }

    #[test]
    fn decimals_of_an_open_range_end_with_int64() {
        let open = Regex::new(&decimals(None, Some(5))).expect("a pattern");
        for (number, matches) in [("-9219999999999999999", true), ("-9223372036854775809", false), ("6", false)] {
            assert_eq!(open.is_match(number), matches, "{number}");
        }
        let whole = Regex::new(&decimals(Some(i64::MIN), Some(i64::MAX))).expect("a pattern");
        assert!(whole.is_match(&i64::MIN.to_string()) && whole.is_match(&i64::MAX.to_string()));
        assert!(!whole.is_match("9223372036854775808") && !whole.is_match("-9223372036854775809"));
    }
}

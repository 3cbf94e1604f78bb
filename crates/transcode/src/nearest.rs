//! The name that a caller may have meant.

/// The longest name that is compared, in characters.
const LONGEST: usize = 64;

/// The name that differs from `wrong` least, by characters inserted, removed or replaced. Case and `_` do not count.
/// `None`: each differs in more than half of its characters.
pub(crate) fn nearest<'n>(names: impl Iterator<Item = &'n str>, wrong: &str) -> Option<&'n str> {
    let (meant, length) = (plain(wrong), wrong.chars().take(LONGEST).flat_map(char::to_lowercase).count());
    let measured = names.map(|name| (strsim::levenshtein(&meant, &plain(name)), name));
    let near = |(distance, name): &(usize, &str)| *distance * 2 <= name.chars().count().max(length);
    measured.filter(near).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// What of a name is compared.
fn plain(name: &str) -> String {
    name.chars().take(LONGEST).flat_map(char::to_lowercase).filter(|character| *character != '_').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(wrong: &str) -> Option<&'static str> {
        nearest(["name", "year", "priceCents", "synopsis"].into_iter(), wrong)
    }

    #[test]
    fn nearest_name_differs_in_half_of_its_characters_at_most() {
        for (wrong, right) in [
            ("nmae", "name"),
            ("nam", "name"),
            ("yaer", "year"),
            ("price_cent", "priceCents"),
            ("PRICECENTS", "priceCents"),
        ] {
            assert_eq!(found(wrong), Some(right), "{wrong}");
        }
        for wrong in ["", "x", "colour", &"synopsis".repeat(100)] {
            assert_eq!(found(wrong), None, "{wrong}");
        }
    }
}

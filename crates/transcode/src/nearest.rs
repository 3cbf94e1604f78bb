//! The name that a caller may have meant.

/// The longest name that is compared, in characters.
const LONGEST: usize = 64;

/// The name that differs from `wrong` least. `None`: each differs in more than half of its characters.
pub(crate) fn nearest<'n>(names: impl Iterator<Item = &'n str>, wrong: &str) -> Option<&'n str> {
    let wrong: Vec<char> = wrong.chars().take(LONGEST).flat_map(char::to_lowercase).collect();
    let measured = names.map(|name| (distance(&wrong, name), name));
    let near = |(distance, name): &(usize, &str)| *distance * 2 <= name.chars().count().max(wrong.len());
    measured.filter(near).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// How many characters have to be inserted, removed or replaced. Case and `_` do not count.
fn distance(wrong: &[char], name: &str) -> usize {
    let wrong: Vec<char> = wrong.iter().copied().filter(|c| *c != '_').collect();
    let name = name.chars().take(LONGEST).flat_map(char::to_lowercase).filter(|c| *c != '_');
    // A row of the table for each character of the name: what the start of `wrong` is apart from the start of the name.
    let mut row: Vec<usize> = (0..=wrong.len()).collect();
    for character in name {
        let mut diagonal = row[0];
        row[0] += 1;
        for (index, other) in wrong.iter().enumerate() {
            let replaced = diagonal + usize::from(*other != character);
            diagonal = row[index + 1];
            row[index + 1] = replaced.min(diagonal + 1).min(row[index] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
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

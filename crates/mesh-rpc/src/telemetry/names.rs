//! A bounded set of names that come from outside, each kept once and as long as the process.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The longest name.
const LONGEST: usize = 256;

/// At most so many names.
pub(super) struct Names {
    most: usize,
    known: Mutex<BTreeSet<&'static str>>,
}

impl Names {
    pub(super) fn at_most(most: usize) -> Self {
        Self { most, known: Mutex::default() }
    }

    /// The name, kept; empty if it is too long, or if there are too many names already.
    pub(super) fn keep(&self, name: &str) -> &'static str {
        if name.is_empty() || name.len() > LONGEST {
            return "";
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(name) {
            return known;
        }
        if known.len() >= self.most {
            return "";
        }
        let name: &'static str = name.to_owned().leak();
        known.insert(name);
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_in_number_and_length() {
        let names = Names::at_most(2);
        let first = names.keep("a");
        assert_eq!((first, names.keep("b"), names.keep("c"), names.keep("a")), ("a", "b", "", "a"));
        assert!(std::ptr::eq(first, names.keep("a")));
        assert_eq!(Names::at_most(2).keep(&"a".repeat(LONGEST + 1)), "");
    }
}

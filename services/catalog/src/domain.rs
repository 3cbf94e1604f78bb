//! What a title is, and the rules it keeps. No I/O, no wire types.

use mesh::Violations;
use uuid::Uuid;

/// A title as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Title {
    pub(crate) id: Uuid,
    pub(crate) details: Details,
    /// Counts the changes, from 1.
    pub(crate) revision: i64,
    /// Microseconds since 1970, like [`update_time`](Self::update_time).
    pub(crate) create_time: i64,
    pub(crate) update_time: i64,
}

/// What the catalog's users decide about a title.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) name: String,
    pub(crate) synopsis: String,
    pub(crate) year: i32,
    pub(crate) price_cents: i64,
}

/// Which details an update changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Name,
    Synopsis,
    Year,
    PriceCents,
}

/// Why the catalog refuses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Invalid(Violations),
    #[error("there is no title {0}")]
    NotFound(Uuid),
    #[error("the title is at revision {current}, not {given}: read it again and decide anew")]
    Stale { given: i64, current: i64 },
    #[error(transparent)]
    Store(#[from] mesh::store::Error),
}

impl Field {
    pub(crate) const ALL: [Self; 4] = [Self::Name, Self::Synopsis, Self::Year, Self::PriceCents];

    /// As the contract calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Synopsis => "synopsis",
            Self::Year => "year",
            Self::PriceCents => "price_cents",
        }
    }
}

impl Details {
    /// Checks the `fields` that somebody wants to store; `parent` is where they stand in the request.
    pub(crate) fn check(&self, fields: &[Field], parent: &str, violations: &mut Violations) {
        for field in fields {
            let (valid, must) = match field {
                Field::Name => {
                    let one_line = !self.name.contains(char::is_control) && self.name.chars().count() <= 200;
                    let must = "must have 1 to 200 characters on one line and not be blank";
                    (one_line && !self.name.trim().is_empty(), must)
                }
                Field::Synopsis => {
                    let plain = self.synopsis.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t'));
                    let must = "must have at most 5000 characters, of control characters only line feeds and tabs";
                    (plain && self.synopsis.chars().count() <= 5000, must)
                }
                // The oldest film that has survived is from 1888.
                Field::Year => ((1888..=2100).contains(&self.year), "must be 1888 to 2100"),
                Field::PriceCents => ((0..=1_000_000).contains(&self.price_cents), "must be 0 to 1000000"),
            };
            violations.check(valid, &format!("{parent}{}", field.name()), must);
        }
    }

    /// The fields that say something: what an update changes when it does not say which.
    pub(crate) fn populated(&self) -> Vec<Field> {
        let empty = Self::default();
        let mut populated = Field::ALL.to_vec();
        populated.retain(|field| match field {
            Field::Name => self.name != empty.name,
            Field::Synopsis => self.synopsis != empty.synopsis,
            Field::Year => self.year != empty.year,
            Field::PriceCents => self.price_cents != empty.price_cents,
        });
        populated
    }
}

impl Title {
    /// A title that nobody has changed yet.
    pub(crate) fn new(details: Details, now: i64) -> Self {
        Self { id: Uuid::now_v7(), details, revision: 1, create_time: now, update_time: now }
    }

    /// Changes `fields` to what `details` says, if the caller has seen the latest revision.
    pub(crate) fn change(&mut self, seen: i64, fields: &[Field], details: Details, now: i64) -> Result<(), Error> {
        if seen != self.revision {
            return Err(Error::Stale { given: seen, current: self.revision });
        }
        for field in fields {
            match field {
                Field::Name => self.details.name.clone_from(&details.name),
                Field::Synopsis => self.details.synopsis.clone_from(&details.synopsis),
                Field::Year => self.details.year = details.year,
                Field::PriceCents => self.details.price_cents = details.price_cents,
            }
        }
        self.revision += 1;
        self.update_time = now;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metropolis() -> Details {
        Details { name: "Metropolis".into(), synopsis: "A city".into(), year: 1927, price_cents: 399 }
    }

    fn bad_fields(details: &Details) -> String {
        let mut violations = Violations::default();
        details.check(&Field::ALL, "", &mut violations);
        violations.finish().map_or_else(|violations| violations.to_string(), |()| String::new())
    }

    #[test]
    fn every_bad_field_is_named() {
        let bad = Details { name: " \t".into(), synopsis: "x".repeat(5001), year: 1887, price_cents: -1 };
        let named = bad_fields(&bad);
        assert!(["name", "synopsis", "year", "price_cents"].iter().all(|field| named.contains(field)), "{named}");
    }

    #[test]
    fn characters_that_no_database_or_screen_can_show_are_refused() {
        for name in ["Metro\0polis", "Metro\npolis", "\u{7}"] {
            assert!(bad_fields(&Details { name: name.into(), ..metropolis() }).contains("name"), "{name:?}");
        }
        assert_eq!(bad_fields(&Details { synopsis: "A city:\n\tabove.".into(), ..metropolis() }), "");
        assert!(bad_fields(&Details { synopsis: "\0".into(), ..metropolis() }).contains("synopsis"));
    }

    #[test]
    fn the_bounds_themselves_are_allowed() {
        for (year, price_cents) in [(1888, 0), (2100, 1_000_000)] {
            let edge = Details { name: "é".repeat(200), synopsis: "é".repeat(5000), year, price_cents };
            assert_eq!(bad_fields(&edge), "");
        }
    }

    #[test]
    fn a_change_touches_only_its_fields_and_counts() {
        let mut title = Title::new(metropolis(), 1);
        let new = Details { name: "M".into(), year: 1931, ..Details::default() };
        title.change(1, &[Field::Year], new, 2).unwrap();
        assert_eq!(title.details, Details { year: 1931, ..metropolis() });
        assert_eq!((title.revision, title.create_time, title.update_time), (2, 1, 2));
    }

    #[test]
    fn who_has_not_seen_the_latest_changes_nothing() {
        let mut title = Title::new(metropolis(), 1);
        let before = title.clone();
        let refused = title.change(3, &Field::ALL, Details::default(), 2);
        assert!(matches!(refused, Err(Error::Stale { given: 3, current: 1 })));
        assert_eq!(title, before);
    }

    #[test]
    fn what_is_populated_is_what_says_something() {
        assert_eq!(metropolis().populated(), Field::ALL);
        assert_eq!(Details { year: 1, ..Details::default() }.populated(), [Field::Year]);
    }
}

//! Titles and their rules. No I/O, no wire types.

use mesh::{Text, Violations};
use uuid::Uuid;

/// A title as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Title {
    pub(crate) id: Uuid,
    pub(crate) details: Details,
    /// 1 at creation, one more with every change.
    pub(crate) revision: i64,
    /// Microseconds since 1970, like [`update_time`](Self::update_time).
    pub(crate) create_time: i64,
    pub(crate) update_time: i64,
}

/// The rules for the texts of a title. The contract repeats their words.
const NAME: Text = Text::line(200);
const SYNOPSIS: Text = Text::lines(5000);

/// The most titles that one call reads by their ids. The contract repeats it.
pub(crate) const MAX_BATCH: usize = 100;

/// The part of a title that callers set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) name: String,
    pub(crate) synopsis: String,
    pub(crate) year: i32,
    pub(crate) price_cents: i64,
}

/// The order of a list of titles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    #[default]
    OldestFirst,
    NewestFirst,
}

impl Order {
    /// `None` for another text than the two that the contract names.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "create_time" => Some(Self::OldestFirst),
            "create_time desc" => Some(Self::NewestFirst),
            _ => None,
        }
    }
}

/// A field of [`Details`], as an update selects it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Name,
    Synopsis,
    Year,
    PriceCents,
}

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Invalid(Violations),
    #[error("title {0} does not exist")]
    NotFound(Uuid),
    #[error("title is at revision {current}, not {given}: read the title again before updating")]
    Stale { given: i64, current: i64 },
    #[error(transparent)]
    Store(#[from] mesh::store::Error),
}

impl Field {
    pub(crate) const ALL: [Self; 4] = [Self::Name, Self::Synopsis, Self::Year, Self::PriceCents];

    /// The field's name in the contract.
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
    /// Checks `fields`. Violations name a field with the prefix `parent`, its path in the request.
    pub(crate) fn check(&self, fields: &[Field], parent: &str, violations: &mut Violations) {
        for field in fields {
            let path = format!("{parent}{}", field.name());
            match field {
                Field::Name => violations.text(&self.name, &path, NAME),
                Field::Synopsis => violations.text(&self.synopsis, &path, SYNOPSIS),
                // The oldest film that has survived is from 1888.
                Field::Year => violations.check((1888..=2100).contains(&self.year), &path, "must be 1888 to 2100"),
                Field::PriceCents => {
                    violations.check((0..=1_000_000).contains(&self.price_cents), &path, "must be 0 to 1000000");
                }
            }
        }
    }

    /// The fields that differ from the default: an update without a mask changes these.
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
    /// A new title, at revision 1. Its id begins with the time, so ids sort in the order of creation.
    pub(crate) fn new(details: Details, now: i64) -> Self {
        Self { id: Uuid::now_v7(), details, revision: 1, create_time: now, update_time: now }
    }

    /// Sets `fields` to their values in `details`.
    ///
    /// # Errors
    ///
    /// [`Error::Stale`] unless `seen` is the current revision.
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
    fn check_names_every_bad_field() {
        let bad = Details { name: " \t".into(), synopsis: "x".repeat(5001), year: 1887, price_cents: -1 };
        let named = bad_fields(&bad);
        assert!(["name", "synopsis", "year", "price_cents"].iter().all(|field| named.contains(field)), "{named}");
    }

    #[test]
    fn check_applies_the_rules_for_texts() {
        for name in ["Metro\0polis", "Metro\npolis", "Metro\u{2028}polis", "\u{200b}"] {
            assert!(bad_fields(&Details { name: name.into(), ..metropolis() }).contains("name"), "{name:?}");
        }
        assert_eq!(bad_fields(&Details { synopsis: "A city:\n\tabove.".into(), ..metropolis() }), "");
        for synopsis in ["\0", "A city\r\nabove.", "A city\u{2028}above."] {
            let bad = bad_fields(&Details { synopsis: synopsis.into(), ..metropolis() });
            assert!(bad.contains("synopsis"), "{synopsis:?}");
        }
    }

    #[test]
    fn contract_has_the_words_of_the_rules_for_texts() {
        let contract = include_str!("../../../proto/catalog/v1/catalog.proto").to_lowercase();
        for rule in [NAME, SYNOPSIS] {
            // In Title and in CreateTitleRequest.
            assert_eq!(contract.matches(&format!("// {rule}.").to_lowercase()).count(), 2, "{rule}");
        }
    }

    #[test]
    fn check_accepts_the_bounds() {
        for (year, price_cents) in [(1888, 0), (2100, 1_000_000)] {
            let edge = Details { name: "é".repeat(200), synopsis: "é".repeat(5000), year, price_cents };
            assert_eq!(bad_fields(&edge), "");
        }
    }

    #[test]
    fn change_sets_only_its_fields_and_counts_the_revision() {
        let mut title = Title::new(metropolis(), 1);
        let new = Details { name: "M".into(), year: 1931, ..Details::default() };
        title.change(1, &[Field::Year], new, 2).unwrap();
        assert_eq!(title.details, Details { year: 1931, ..metropolis() });
        assert_eq!((title.revision, title.create_time, title.update_time), (2, 1, 2));
    }

    #[test]
    fn change_refuses_a_stale_revision() {
        let mut title = Title::new(metropolis(), 1);
        let before = title.clone();
        let refused = title.change(3, &Field::ALL, Details::default(), 2);
        assert!(matches!(refused, Err(Error::Stale { given: 3, current: 1 })));
        assert_eq!(title, before);
    }

    #[test]
    fn populated_lists_the_fields_that_differ_from_the_default() {
        assert_eq!(metropolis().populated(), Field::ALL);
        assert_eq!(Details { year: 1, ..Details::default() }.populated(), [Field::Year]);
    }
}

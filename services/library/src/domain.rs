//! Orders and their rules. No I/O, no wire types.

use std::time::Duration;

use mesh::{Text, Violations};
use uuid::Uuid;

/// What to rent, to whom and for how much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) viewer: String,
    pub(crate) title: Uuid,
    /// The price that the viewer was shown.
    pub(crate) price_cents: i64,
}

/// What the copy and the rentals say of a title for a viewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) price_cents: i64,
    /// The id of the rental that the viewer has, or is about to have.
    pub(crate) rental: Option<String>,
}

/// Why a call or a rental fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Invalid(Violations),
    #[error("title {0} does not exist")]
    UnknownTitle(Uuid),
    #[error("rental {0} does not exist")]
    NotFound(Uuid),
    #[error("the viewer has rented the title, or is about to: see {}", operation(.0))]
    Rented(String),
    #[error("the price is {current} cents, not {expected}: show it to the viewer and rent again")]
    PriceChanged { expected: i64, current: i64 },
    #[error("the title or a rental of it changed at the same time: retry")]
    Conflict,
    #[error(transparent)]
    Store(#[from] mesh::store::Error),
}

/// The rule for viewers and cards. The contract repeats its words.
pub(crate) const NAME: Text = Text::line(100);
/// How long a viewer may watch a title from its grant. The contract repeats it.
pub(crate) const PERIOD: Duration = Duration::from_secs(48 * 60 * 60);
/// The most titles of one request. The contract repeats it.
pub(crate) const MAX_BATCH: usize = 100;
/// The highest price, as the catalog has it. The contract repeats it.
const MAX_CENTS: i64 = 1_000_000;

/// The name of the operation that made a rental: a rental has the id of its operation.
pub(crate) fn operation(rental: &str) -> String {
    format!("services/library/operations/{rental}")
}

impl Order {
    pub(crate) fn check(&self, violations: &mut Violations) {
        violations.text(&self.viewer, "viewer_id", NAME);
        let price = (0..=MAX_CENTS).contains(&self.price_cents);
        violations.check(price, "expected_price_cents", "must be 0 to 1000000");
    }
}

impl Offer {
    /// Checks that the viewer of `order` may rent its title at its price.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownTitle`], [`Error::Rented`], [`Error::PriceChanged`].
    pub(crate) fn check(offer: Option<Self>, order: &Order) -> Result<(), Error> {
        let offer = offer.ok_or(Error::UnknownTitle(order.title))?;
        match offer.rental {
            Some(rental) => Err(Error::Rented(rental)),
            None if offer.price_cents != order.price_cents => {
                Err(Error::PriceChanged { expected: order.price_cents, current: offer.price_cents })
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(viewer: &str, price_cents: i64) -> Order {
        Order { viewer: viewer.to_owned(), title: Uuid::nil(), price_cents }
    }

    #[test]
    fn check_names_every_bad_field_and_accepts_the_bounds() {
        let bad = |viewer: &str, price| {
            let mut violations = Violations::default();
            order(viewer, price).check(&mut violations);
            violations.finish().map_or_else(|violations| violations.to_string(), |()| String::new())
        };
        assert_eq!(bad("a", 0) + &bad(&"é".repeat(100), 1_000_000), "");
        for named in [bad(" ", -1), bad(&"x".repeat(101), 1_000_001)] {
            assert!(named.contains("viewer_id") && named.contains("expected_price_cents"), "{named}");
        }
    }

    #[test]
    fn contract_has_the_words_of_the_rules() {
        let contract = include_str!("../../../proto/library/v1/library.proto").to_lowercase().replace("\n  // ", " ");
        // Three viewers and a card.
        assert_eq!(contract.matches(&NAME.to_string().to_lowercase()).count(), 4, "{NAME}");
        assert!(contract.contains(&format!("{} hours after the grant", PERIOD.as_secs() / 3600)));
        assert!(contract.contains(&format!("1 to {MAX_BATCH} uuids")));
        assert!(contract.contains("0 to 1,000,000"));
    }

    #[test]
    fn offer_is_checked_for_title_then_rental_then_price() {
        let check = |offer| Offer::check(offer, &order("a", 1)).map_err(|error| error.to_string());
        assert!(check(None).unwrap_err().contains("does not exist"));
        let rented = Offer { price_cents: 2, rental: Some("a".to_owned()) };
        assert!(check(Some(rented)).unwrap_err().contains("services/library/operations/a"));
        assert!(check(Some(Offer { price_cents: 2, rental: None })).unwrap_err().contains("2 cents, not 1"));
        assert_eq!(check(Some(Offer { price_cents: 1, rental: None })), Ok(()));
    }
}

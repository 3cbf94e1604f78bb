//! Orders and their rules. No I/O, no wire types.

use std::time::Duration;

use mesh::context::Caller;
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
    #[error("viewer_id is not the user of the token: leave it out, or send the subject of the user")]
    NotTheCaller,
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

/// The viewer of a request that names one, or none. A user is the viewer, and need not say so.
///
/// # Errors
///
/// [`Error::NotTheCaller`]. A name that breaks the rule is one of `violations`.
pub(crate) fn viewer(named: &str, caller: &Caller, violations: &mut Violations) -> Result<String, Error> {
    let viewer = match caller.subject() {
        Some(subject) if named.is_empty() => subject,
        _ => {
            violations.text(named, "viewer_id", NAME);
            named
        }
    };
    if caller.may_act_for(viewer) { Ok(viewer.to_owned()) } else { Err(Error::NotTheCaller) }
}

impl Order {
    pub(crate) fn check(&self, violations: &mut Violations) {
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
    use std::sync::Arc;
    use std::time::SystemTime;

    use mesh::context::User;

    use super::*;

    fn order(viewer: &str, price_cents: i64) -> Order {
        Order { viewer: viewer.to_owned(), title: Uuid::nil(), price_cents }
    }

    #[test]
    fn check_names_every_bad_field_and_accepts_the_bounds() {
        let bad = |name: &str, price| {
            let mut violations = Violations::default();
            let _ = viewer(name, &Caller::default(), &mut violations);
            order(name, price).check(&mut violations);
            violations.finish().map_or_else(|violations| violations.to_string(), |()| String::new())
        };
        assert_eq!(bad("a", 0) + &bad(&"é".repeat(100), 1_000_000), "");
        for named in [bad(" ", -1), bad("", -1), bad(&"x".repeat(101), 1_000_001)] {
            assert!(named.contains("viewer_id") && named.contains("expected_price_cents"), "{named}");
        }
    }

    #[test]
    fn viewer_is_the_user_whom_others_may_name() {
        let user = |subject: &str, scope: &str| {
            let (issuer, scopes) = ("https://issuer.test".to_owned(), [scope.to_owned()].into());
            let (subject, until) = (subject.to_owned(), SystemTime::now());
            Caller::user(Arc::new(User { issuer, subject, scopes, until }))
        };
        let named = |name: &str, caller: &Caller| {
            let mut violations = Violations::default();
            viewer(name, caller, &mut violations).ok().filter(|_| violations.finish().is_ok())
        };
        let (alice, olga) = (user("alice", ""), user("olga", "mesh.operator"));
        assert_eq!(
            ["", "alice", "bob"].map(|name| named(name, &alice)),
            [Some("alice".into()), Some("alice".into()), None]
        );
        assert_eq!(["", "alice"].map(|name| named(name, &olga)), [Some("olga".into()), Some("alice".into())]);
        for caller in [Caller::service("tv"), Caller::default()] {
            assert_eq!(["", "alice"].map(|name| named(name, &caller)), [None, Some("alice".into())]);
        }
        // A subject may be longer than a name in a request.
        assert_eq!(named("", &user(&"x".repeat(200), "")).map(|viewer| viewer.len()), Some(200));
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

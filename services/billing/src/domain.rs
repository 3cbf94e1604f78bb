//! Charges and their rules. No I/O, no wire types.

use mesh::{Text, Violations};
use uuid::Uuid;

/// A charge as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Charge {
    /// The `request_id` of the call that made it.
    pub(crate) id: Uuid,
    pub(crate) order: Order,
    pub(crate) state: State,
    /// Microseconds since 1970, like [`update_time`](Self::update_time).
    pub(crate) create_time: i64,
    pub(crate) update_time: i64,
}

/// What to charge. Empty for a charge whose refund came first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) card: String,
    pub(crate) amount_cents: i64,
}

/// The state of a charge. The numbers are stored, and are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Charged = 1,
    Refunded = 2,
    Declined = 3,
    /// The refund came before the charge.
    Voided = 4,
}

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Invalid(Violations),
    #[error("charge {0} does not exist")]
    NotFound(Uuid),
    #[error("the card was declined")]
    Declined,
    #[error("charge {0} was refunded before; it is not charged again")]
    Voided(Uuid),
    #[error(transparent)]
    Store(#[from] mesh::store::Error),
}

/// The rule for cards. The contract repeats its words.
const CARD: Text = Text::line(100);
/// The largest amount. The contract repeats it.
const MAX_CENTS: i64 = 1_000_000;
/// The card that is declined. The contract names it.
const DECLINED_CARD: &str = "test-declined";

impl Order {
    pub(crate) fn check(&self, violations: &mut Violations) {
        violations.text(&self.card, "card", CARD);
        violations.check((1..=MAX_CENTS).contains(&self.amount_cents), "amount_cents", "must be 1 to 1000000");
    }

    /// The state of its charge. A provider of payments would be asked here.
    pub(crate) fn state(&self) -> State {
        if self.card == DECLINED_CARD { State::Declined } else { State::Charged }
    }
}

impl Charge {
    /// What to answer to a request to charge `order` under the id of this charge, the first one or a repeat.
    ///
    /// # Errors
    ///
    /// [`Error::Declined`], [`Error::Voided`]; the id belongs to another order.
    pub(crate) fn answer(self, order: &Order) -> Result<Self, Error> {
        match self.state {
            State::Voided => Err(Error::Voided(self.id)),
            _ if self.order != *order => Err(mesh::store::Error::RequestIdReused.into()),
            State::Refunded => Err(Error::Voided(self.id)),
            State::Declined => Err(Error::Declined),
            State::Charged => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(card: &str, amount_cents: i64) -> Order {
        Order { card: card.to_owned(), amount_cents }
    }

    #[test]
    fn check_names_every_bad_field_and_accepts_the_bounds() {
        let bad = |card: &str, amount| {
            let mut violations = Violations::default();
            order(card, amount).check(&mut violations);
            violations.finish().map_or_else(|violations| violations.to_string(), |()| String::new())
        };
        assert_eq!(bad("a", 1) + &bad(&"é".repeat(100), 1_000_000), "");
        for named in [bad(" ", 0), bad(&"x".repeat(101), -1), bad("a\nb", 1_000_001)] {
            assert!(named.contains("card") && named.contains("amount_cents"), "{named}");
        }
    }

    #[test]
    fn contract_has_the_words_of_the_rules() {
        let contract = include_str!("../../../proto/billing/v1/billing.proto").to_lowercase().replace("\n  // ", " ");
        assert!(contract.contains(&CARD.to_string().to_lowercase()), "{CARD}");
        assert!(contract.contains("`test-declined` is declined") && contract.contains("1 to 1,000,000"));
    }

    #[test]
    fn answer_to_a_repeat_follows_the_state_of_the_charge() {
        let answer = |state, given: &Order| {
            let (order, id) = (order("a", 1), Uuid::nil());
            let charge = Charge { id, order, state, create_time: 0, update_time: 0 };
            charge.answer(given).map(drop).map_err(|error| error.to_string())
        };
        let (same, other) = (order("a", 1), order("a", 2));
        assert_eq!(answer(State::Charged, &same), Ok(()));
        assert!(answer(State::Declined, &same).unwrap_err().contains("declined"));
        for state in [State::Refunded, State::Voided] {
            assert!(answer(state, &same).unwrap_err().contains("refunded"));
        }
        for state in [State::Charged, State::Refunded, State::Declined] {
            assert!(answer(state, &other).unwrap_err().contains("another request"));
        }
    }
}

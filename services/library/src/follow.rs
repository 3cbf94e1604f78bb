//! What library follows: the titles of the catalog, and the charges at billing.

use contracts::{billing, catalog};
use mesh::Error;
use mesh::events::{Applying, Follow};

use crate::store;

/// Keeps the copy of the catalog's titles.
pub(crate) struct Titles;

impl Follow for Titles {
    const SOURCE: &'static str = "catalog";
    type Event = catalog::v1::Event;

    async fn apply(&self, tx: &mut Applying<'_>, event: catalog::v1::Event) -> Result<(), Error> {
        use catalog::v1::{Event, TitleAdded, TitleChanged, TitleRemoved};
        let generation = tx.generation();
        match event {
            Event::TitleAdded(TitleAdded { title }) | Event::TitleChanged(TitleChanged { title }) => {
                store::put(&mut ***tx, &title.unwrap_or_default(), generation).await
            }
            Event::TitleRemoved(TitleRemoved { title }) => {
                store::remove(&mut ***tx, &title.unwrap_or_default().title_id).await
            }
            Event::Unknown(_) => Ok(()),
        }
    }

    async fn sweep(&self, tx: &mut Applying<'_>, before: i64) -> Result<(), Error> {
        store::sweep(&mut ***tx, before).await
    }
}

/// Reports charges that belong to no rental: a library that was restored from a backup has forgotten some.
pub(crate) struct Charges;

impl Follow for Charges {
    const SOURCE: &'static str = "billing";
    type Event = billing::v1::Event;

    async fn apply(&self, tx: &mut Applying<'_>, event: billing::v1::Event) -> Result<(), Error> {
        if let billing::v1::Event::ChargeMade(made) = event {
            let charge = made.charge.unwrap_or_default();
            if !store::is_of_a_rental(&mut ***tx, &charge.charge_id).await? {
                tracing::warn!(charge = charge.charge_id, cents = charge.amount_cents, "a charge belongs to no rental");
            }
        }
        Ok(())
    }

    /// There is no copy of charges.
    async fn sweep(&self, _: &mut Applying<'_>, _: i64) -> Result<(), Error> {
        Ok(())
    }
}

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

/// Keeps and reports the charges that belong to no rental: a library that was restored from a backup has forgotten
/// some.
pub(crate) struct Charges;

impl Follow for Charges {
    const SOURCE: &'static str = "billing";
    type Event = billing::v1::Event;

    async fn apply(&self, tx: &mut Applying<'_>, event: billing::v1::Event) -> Result<(), Error> {
        use billing::v1::{ChargeMade, ChargeRefunded, Event};
        let generation = tx.generation();
        match event {
            Event::ChargeMade(ChargeMade { charge }) => {
                let charge = charge.unwrap_or_default();
                if !store::is_of_a_rental(&mut ***tx, &charge.charge_id).await? {
                    let (charge_id, cents) = (&charge.charge_id, charge.amount_cents);
                    tracing::warn!(charge = charge_id, cents, "a charge belongs to no rental: refund it at billing");
                    store::put_orphan(&mut ***tx, &charge, generation).await?;
                }
                Ok(())
            }
            Event::ChargeRefunded(ChargeRefunded { charge }) => {
                store::remove_orphan(&mut ***tx, &charge.unwrap_or_default().charge_id).await
            }
            Event::Unknown(_) => Ok(()),
        }
    }

    async fn sweep(&self, tx: &mut Applying<'_>, before: i64) -> Result<(), Error> {
        store::sweep_orphans(&mut ***tx, before).await
    }
}

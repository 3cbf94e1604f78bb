//! The SQL of billing.

use contracts::billing::v1::{ChargeMade, ChargeRefunded, Event};
use mesh::store::{Error, Store};
use sqlx::any::AnyRow;
use sqlx::{AnyExecutor, Row as _};
use uuid::Uuid;

use crate::domain::{Charge, Order, State};

/// Stores a charge unless its id is known; false if it is.
pub(crate) async fn insert(database: impl AnyExecutor<'_>, charge: &Charge) -> Result<bool, Error> {
    let insert = "INSERT INTO charges (charge_id, card, amount_cents, state, create_time, update_time)
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (charge_id) DO NOTHING";
    let insert = sqlx::query(insert).bind(charge.id.to_string()).bind(&charge.order.card);
    let insert = insert.bind(charge.order.amount_cents).bind(charge.state as i64);
    let insert = insert.bind(charge.create_time).bind(charge.update_time);
    Ok(insert.execute(database).await?.rows_affected() == 1)
}

/// Makes a charge that was made a refunded one; false if it was not made, or is refunded.
pub(crate) async fn refund(database: impl AnyExecutor<'_>, id: Uuid, now: i64) -> Result<bool, Error> {
    let refund = "UPDATE charges SET state = $1, update_time = $2 WHERE charge_id = $3 AND state = $4";
    let refund = sqlx::query(refund).bind(State::Refunded as i64).bind(now).bind(id.to_string());
    Ok(refund.bind(State::Charged as i64).execute(database).await?.rows_affected() == 1)
}

pub(crate) async fn get(database: impl AnyExecutor<'_>, id: Uuid) -> Result<Option<Charge>, Error> {
    let get = "SELECT charge_id, card, amount_cents, state, create_time, update_time FROM charges WHERE charge_id = $1";
    Ok(sqlx::query(get).bind(id.to_string()).try_map(read).fetch_optional(database).await?)
}

/// The charges behind a key that were made, refunded or not, as events for new readers.
pub(crate) async fn snapshot(store: Store, after: String, limit: i64) -> Result<Vec<Event>, Error> {
    let page = "SELECT charge_id, card, amount_cents, state, create_time, update_time FROM charges
        WHERE charge_id > $1 AND state IN ($2, $3) ORDER BY charge_id LIMIT $4";
    let page = sqlx::query(page).bind(after).bind(State::Charged as i64).bind(State::Refunded as i64).bind(limit);
    let event = |charge: Charge| match charge.state {
        State::Refunded => ChargeRefunded { charge: Some(charge.into()) }.into(),
        _ => ChargeMade { charge: Some(charge.into()) }.into(),
    };
    Ok(page.try_map(read).fetch_all(store.reader()).await?.into_iter().map(event).collect())
}

fn read(row: AnyRow) -> sqlx::Result<Charge> {
    let id: String = row.try_get("charge_id")?;
    let state = match row.try_get::<i64, _>("state")? {
        1 => State::Charged,
        2 => State::Refunded,
        3 => State::Declined,
        4 => State::Voided,
        other => return Err(sqlx::Error::Decode(format!("there is no state {other} of a charge").into())),
    };
    Ok(Charge {
        id: id.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        order: Order { card: row.try_get("card")?, amount_cents: row.try_get("amount_cents")? },
        state,
        create_time: row.try_get("create_time")?,
        update_time: row.try_get("update_time")?,
    })
}

//! The SQL of library. Titles and rentals are read as the contract has them: no rule changes them.

use std::collections::HashMap;

use contracts::library::v1::{Rental, RentalState, Title};
use contracts::{billing, catalog};
use mesh::store::{Connection, Error, in_list, now, timestamp};
use sqlx::any::AnyRow;
use sqlx::{AnyExecutor, AssertSqlSafe, Row as _};
use uuid::Uuid;

use crate::domain::{Offer, Order, PERIOD, operation};

/// Stores a title of the catalog. Behind a snapshot, an event may be older than the row; only a rebuild goes back.
pub(crate) async fn put(
    database: impl AnyExecutor<'_>,
    title: &catalog::v1::Title,
    generation: i64,
) -> Result<(), Error> {
    let put = "INSERT INTO titles (title_id, name, price_cents, revision, generation) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (title_id) DO UPDATE SET name = excluded.name, price_cents = excluded.price_cents,
            revision = excluded.revision, generation = excluded.generation
        WHERE titles.generation < excluded.generation OR titles.revision <= excluded.revision";
    let put = sqlx::query(put).bind(&title.title_id).bind(&title.name).bind(title.price_cents);
    put.bind(title.revision).bind(generation).execute(database).await?;
    Ok(())
}

pub(crate) async fn remove(database: impl AnyExecutor<'_>, title: &str) -> Result<(), Error> {
    sqlx::query("DELETE FROM titles WHERE title_id = $1").bind(title).execute(database).await?;
    Ok(())
}

/// Deletes the titles that a rebuild has not seen again.
pub(crate) async fn sweep(database: impl AnyExecutor<'_>, before: i64) -> Result<(), Error> {
    sqlx::query("DELETE FROM titles WHERE generation < $1").bind(before).execute(database).await?;
    Ok(())
}

/// At most `limit` titles behind the one with the id `after`.
pub(crate) async fn titles(
    database: impl AnyExecutor<'_>,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Title>, Error> {
    let list =
        "SELECT title_id, name, price_cents, revision FROM titles WHERE title_id > $1 ORDER BY title_id LIMIT $2";
    let list = sqlx::query(list).bind(after.map(|id| id.to_string()).unwrap_or_default()).bind(limit);
    Ok(list.try_map(read_title).fetch_all(database).await?)
}

pub(crate) async fn title(database: impl AnyExecutor<'_>, id: Uuid) -> Result<Option<Title>, Error> {
    let get = sqlx::query("SELECT title_id, name, price_cents, revision FROM titles WHERE title_id = $1");
    Ok(get.bind(id.to_string()).try_map(read_title).fetch_optional(database).await?)
}

/// What there is for the order; `None` without its title.
pub(crate) async fn offer(database: impl AnyExecutor<'_>, order: &Order) -> Result<Option<Offer>, Error> {
    let offer = "SELECT t.price_cents, r.rental_id FROM titles t
        LEFT JOIN rentals r ON r.title_id = t.title_id AND r.viewer_id = $1 AND r.state < 3
            AND (r.state = 1 OR COALESCE(r.expire_time, r.update_time + $2) > $3)
        WHERE t.title_id = $4";
    let offer = sqlx::query(offer).bind(&order.viewer).bind(period()).bind(now()).bind(order.title.to_string());
    let offer = offer.try_map(|row: AnyRow| {
        Ok(Offer { price_cents: row.try_get("price_cents")?, rental: row.try_get("rental_id")? })
    });
    Ok(offer.fetch_optional(database).await?)
}

/// Reserves a rental for the order, if there still is its offer; false if not. An expired rental makes way.
pub(crate) async fn reserve(
    database: &mut Connection,
    rental: &str,
    order: &Order,
    charge: Uuid,
) -> Result<bool, Error> {
    let (title, now) = (order.title.to_string(), now());
    let expire = "UPDATE rentals SET state = $1, expire_time = COALESCE(expire_time, update_time + $2),
            update_time = COALESCE(expire_time, update_time + $2)
        WHERE viewer_id = $3 AND title_id = $4 AND state = $5 AND COALESCE(expire_time, update_time + $2) <= $6";
    let expire = sqlx::query(expire).bind(RentalState::Expired as i64).bind(period()).bind(&order.viewer).bind(&title);
    expire.bind(RentalState::Granted as i64).bind(now).execute(&mut *database).await?;
    let reserve = "INSERT INTO rentals
        (rental_id, viewer_id, title_id, price_cents, charge_id, state, create_time, update_time)
        SELECT $1, $2, title_id, price_cents, $3, $4, $5, $5 FROM titles WHERE title_id = $6 AND price_cents = $7
        ON CONFLICT DO NOTHING";
    let reserve = sqlx::query(reserve).bind(rental).bind(&order.viewer).bind(charge.to_string());
    let reserve = reserve.bind(RentalState::Reserved as i64).bind(now).bind(title).bind(order.price_cents);
    Ok(reserve.execute(database).await?.rows_affected() == 1)
}

/// Grants or releases a rental; `None` if it was never reserved.
pub(crate) async fn turn(database: &mut Connection, id: &str, state: RentalState) -> Result<Option<Rental>, Error> {
    let now = now();
    let expire = (state == RentalState::Granted).then_some(now.saturating_add(period()));
    let turn = sqlx::query("UPDATE rentals SET state = $1, update_time = $2, expire_time = $3 WHERE rental_id = $4");
    turn.bind(state as i64).bind(now).bind(expire).bind(id).execute(&mut *database).await?;
    rental(database, id).await
}

pub(crate) async fn rental(database: impl AnyExecutor<'_>, id: &str) -> Result<Option<Rental>, Error> {
    let get = "SELECT rental_id, viewer_id, title_id, price_cents, state, create_time, update_time, expire_time
        FROM rentals WHERE rental_id = $1";
    Ok(sqlx::query(get).bind(id).try_map(read_rental).fetch_optional(database).await?)
}

/// At most `limit` rentals of a viewer behind the one with the id `after`.
pub(crate) async fn rentals(
    database: impl AnyExecutor<'_>,
    viewer: &str,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Rental>, Error> {
    let list = "SELECT rental_id, viewer_id, title_id, price_cents, state, create_time, update_time, expire_time
        FROM rentals WHERE viewer_id = $1 AND rental_id > $2 ORDER BY rental_id LIMIT $3";
    let list = sqlx::query(list).bind(viewer).bind(after.map(|id| id.to_string()).unwrap_or_default()).bind(limit);
    Ok(list.try_map(read_rental).fetch_all(database).await?)
}

/// The rentals of a viewer for these titles that have not ended, in this order.
pub(crate) async fn current_rentals(
    database: impl AnyExecutor<'_>,
    viewer: &str,
    titles: &[Uuid],
) -> Result<Vec<Rental>, Error> {
    let (list, values) = in_list(titles);
    let current = format!(
        "SELECT rental_id, viewer_id, title_id, price_cents, state, create_time, update_time, expire_time
        FROM rentals WHERE title_id IN ({list}) AND viewer_id = ${} AND state < 3",
        values.len() + 1
    );
    let current = values.iter().fold(sqlx::query(AssertSqlSafe(current)), |current, id| current.bind(id));
    let found = current.bind(viewer).try_map(read_rental).fetch_all(database).await?;
    let found = found.into_iter().filter(|rental| rental.state() != RentalState::Expired);
    let mut found: HashMap<_, _> = found.map(|rental| (rental.title_id.clone(), rental)).collect();
    Ok(titles.iter().filter_map(|id| found.remove(&id.to_string())).collect())
}

/// Whether a charge belongs to a rental.
pub(crate) async fn is_of_a_rental(database: impl AnyExecutor<'_>, charge: &str) -> Result<bool, Error> {
    let find = sqlx::query("SELECT rental_id FROM rentals WHERE charge_id = $1").bind(charge);
    Ok(find.fetch_optional(database).await?.is_some())
}

/// Keeps a charge that belongs to no rental.
pub(crate) async fn put_orphan(
    database: impl AnyExecutor<'_>,
    charge: &billing::v1::Charge,
    generation: i64,
) -> Result<(), Error> {
    let put = "INSERT INTO orphan_charges (charge_id, amount_cents, found_time, generation) VALUES ($1, $2, $3, $4)
        ON CONFLICT (charge_id) DO UPDATE SET generation = excluded.generation";
    let put = sqlx::query(put).bind(&charge.charge_id).bind(charge.amount_cents).bind(now()).bind(generation);
    put.execute(database).await?;
    Ok(())
}

pub(crate) async fn remove_orphan(database: impl AnyExecutor<'_>, charge: &str) -> Result<(), Error> {
    sqlx::query("DELETE FROM orphan_charges WHERE charge_id = $1").bind(charge).execute(database).await?;
    Ok(())
}

/// Deletes the charges that a rebuild has not seen again.
pub(crate) async fn sweep_orphans(database: impl AnyExecutor<'_>, before: i64) -> Result<(), Error> {
    sqlx::query("DELETE FROM orphan_charges WHERE generation < $1").bind(before).execute(database).await?;
    Ok(())
}

/// The time from the grant to the end, in microseconds.
fn period() -> i64 {
    i64::try_from(PERIOD.as_micros()).unwrap_or(i64::MAX)
}

fn read_title(row: AnyRow) -> sqlx::Result<Title> {
    Ok(Title {
        title_id: row.try_get("title_id")?,
        name: row.try_get("name")?,
        price_cents: row.try_get("price_cents")?,
        revision: row.try_get("revision")?,
    })
}

fn read_rental(row: AnyRow) -> sqlx::Result<Rental> {
    let (rental_id, state): (String, i64) = (row.try_get("rental_id")?, row.try_get("state")?);
    let (updated, expires): (i64, Option<i64>) = (row.try_get("update_time")?, row.try_get("expire_time")?);
    let expires =
        expires.or_else(|| (state == RentalState::Granted as i64).then_some(updated.saturating_add(period())));
    // The row of an expired rental changes when the viewer rents the title again.
    let expired = expires.filter(|expires| state == RentalState::Granted as i64 && *expires <= now());
    let state = expired.map_or(state, |_| RentalState::Expired as i64);
    Ok(Rental {
        operation: operation(&rental_id),
        rental_id,
        viewer_id: row.try_get("viewer_id")?,
        title_id: row.try_get("title_id")?,
        price_cents: row.try_get("price_cents")?,
        state: state.try_into().unwrap_or_default(),
        create_time: Some(timestamp(row.try_get("create_time")?)),
        update_time: Some(timestamp(expired.unwrap_or(updated))),
        expire_time: expires.map(timestamp),
    })
}

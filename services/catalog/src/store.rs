//! The SQL of the catalog.

use std::collections::HashMap;

use contracts::catalog::v1::{Event, TitleAdded};
use mesh::store::{Error, Store, in_list};
use sqlx::any::AnyRow;
use sqlx::{AnyExecutor, AssertSqlSafe, Row as _};
use uuid::Uuid;

use crate::domain::{Details, Order, Title};

pub(crate) async fn insert(database: impl AnyExecutor<'_>, title: &Title) -> Result<(), Error> {
    let insert = "INSERT INTO titles
        (title_id, name, synopsis, year, price_cents, revision, create_time, update_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let insert = sqlx::query(insert).bind(title.id.to_string()).bind(&title.details.name);
    let insert = insert.bind(&title.details.synopsis).bind(title.details.year).bind(title.details.price_cents);
    insert.bind(title.revision).bind(title.create_time).bind(title.update_time).execute(database).await?;
    Ok(())
}

pub(crate) async fn get(database: impl AnyExecutor<'_>, id: Uuid) -> Result<Option<Title>, Error> {
    let get = "SELECT title_id, name, synopsis, year, price_cents, revision, create_time, update_time
        FROM titles WHERE title_id = $1";
    let get = sqlx::query(get).bind(id.to_string());
    Ok(get.try_map(read).fetch_optional(database).await?)
}

/// The titles with these ids, in this order, each once. Leaves out those that do not exist.
pub(crate) async fn get_all(database: impl AnyExecutor<'_>, ids: &[Uuid]) -> Result<Vec<Title>, Error> {
    let (list, values) = in_list(ids);
    let get = format!(
        "SELECT title_id, name, synopsis, year, price_cents, revision, create_time, update_time
        FROM titles WHERE title_id IN ({list})"
    );
    let get = values.iter().fold(sqlx::query(AssertSqlSafe(get)), |get, id| get.bind(id));
    let found = get.try_map(read).fetch_all(database).await?;
    let mut found: HashMap<_, _> = found.into_iter().map(|title| (title.id, title)).collect();
    Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
}

/// At most `limit` titles, behind the title with the id `after`. The ids grow with the time of creation.
pub(crate) async fn list(
    database: impl AnyExecutor<'_>,
    order: Order,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Title>, Error> {
    let (list, first) = match order {
        Order::OldestFirst => (
            "SELECT title_id, name, synopsis, year, price_cents, revision, create_time, update_time
            FROM titles WHERE title_id > $1 ORDER BY title_id LIMIT $2",
            Uuid::nil(),
        ),
        Order::NewestFirst => (
            "SELECT title_id, name, synopsis, year, price_cents, revision, create_time, update_time
            FROM titles WHERE title_id < $1 ORDER BY title_id DESC LIMIT $2",
            Uuid::max(),
        ),
    };
    let after = after.unwrap_or(first).to_string();
    Ok(sqlx::query(list).bind(after).bind(limit).try_map(read).fetch_all(database).await?)
}

/// The titles behind a key as events, for new readers.
pub(crate) async fn snapshot(store: Store, after: String, limit: i64) -> Result<Vec<Event>, Error> {
    let titles = list(store.reader(), Order::OldestFirst, after.parse().ok(), limit).await?;
    Ok(titles.into_iter().map(|title| TitleAdded { title: Some(title.into()) }.into()).collect())
}

/// Stores a title that was read at revision `seen`. False if the title was changed or deleted since.
pub(crate) async fn update(database: impl AnyExecutor<'_>, title: &Title, seen: i64) -> Result<bool, Error> {
    let update = "UPDATE titles
        SET name = $1, synopsis = $2, year = $3, price_cents = $4, revision = $5, update_time = $6
        WHERE title_id = $7 AND revision = $8";
    let update = sqlx::query(update).bind(&title.details.name).bind(&title.details.synopsis);
    let update = update.bind(title.details.year).bind(title.details.price_cents).bind(title.revision);
    let update = update.bind(title.update_time).bind(title.id.to_string()).bind(seen);
    Ok(update.execute(database).await?.rows_affected() == 1)
}

/// Deletes a title, and returns it; `None` if it does not exist.
pub(crate) async fn delete(database: impl AnyExecutor<'_>, id: Uuid) -> Result<Option<Title>, Error> {
    let delete = "DELETE FROM titles WHERE title_id = $1
        RETURNING title_id, name, synopsis, year, price_cents, revision, create_time, update_time";
    let delete = sqlx::query(delete).bind(id.to_string());
    Ok(delete.try_map(read).fetch_optional(database).await?)
}

fn read(row: AnyRow) -> sqlx::Result<Title> {
    let id: String = row.try_get("title_id")?;
    let year: i64 = row.try_get("year")?;
    Ok(Title {
        id: id.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        details: Details {
            name: row.try_get("name")?,
            synopsis: row.try_get("synopsis")?,
            year: year.try_into().map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            price_cents: row.try_get("price_cents")?,
        },
        revision: row.try_get("revision")?,
        create_time: row.try_get("create_time")?,
        update_time: row.try_get("update_time")?,
    })
}

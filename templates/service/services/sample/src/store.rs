//! The SQL of `sample`.

use mesh::store::{Error, Transaction};
use sqlx::any::AnyRow;
use sqlx::{AnyExecutor, Row as _};
use uuid::Uuid;

use crate::domain::Item;

pub(crate) async fn insert(tx: &mut Transaction, item: &Item) -> Result<(), Error> {
    let insert = sqlx::query("INSERT INTO items (item_id, name, create_time) VALUES ($1, $2, $3)");
    let insert = insert.bind(item.id.to_string()).bind(&item.name).bind(item.create_time);
    insert.execute(&mut **tx).await?;
    Ok(())
}

pub(crate) async fn get(database: impl AnyExecutor<'_>, id: Uuid) -> Result<Option<Item>, Error> {
    let get = sqlx::query("SELECT item_id, name, create_time FROM items WHERE item_id = $1").bind(id.to_string());
    Ok(get.try_map(read).fetch_optional(database).await?)
}

fn read(row: AnyRow) -> sqlx::Result<Item> {
    let id: String = row.try_get("item_id")?;
    let id = id.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(Item { id, name: row.try_get("name")?, create_time: row.try_get("create_time")? })
}

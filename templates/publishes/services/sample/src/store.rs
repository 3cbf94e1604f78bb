//! The SQL of `sample`.

use contracts::sample::v1::{Event, ItemAdded};
use mesh::events::Publish as _;
use mesh::store::{Error, Store, Transaction};
use sqlx::any::AnyRow;
use sqlx::{AnyExecutor, Row as _};
use uuid::Uuid;

use crate::domain::Item;

/// Stores an item and publishes it. Both commit, or neither does.
pub(crate) async fn insert(tx: &mut Transaction, item: &Item) -> Result<(), Error> {
    let insert = sqlx::query("INSERT INTO items (item_id, name, create_time) VALUES ($1, $2, $3)");
    let insert = insert.bind(item.id.to_string()).bind(&item.name).bind(item.create_time);
    insert.execute(&mut **tx).await?;
    tx.publish(&ItemAdded { item: Some(item.clone().into()) })
}

pub(crate) async fn get(database: impl AnyExecutor<'_>, id: Uuid) -> Result<Option<Item>, Error> {
    let get = sqlx::query("SELECT item_id, name, create_time FROM items WHERE item_id = $1").bind(id.to_string());
    Ok(get.try_map(read).fetch_optional(database).await?)
}

/// The items behind a key as events, for new readers.
pub(crate) async fn snapshot(store: Store, after: String, limit: i64) -> Result<Vec<Event>, Error> {
    let page = "SELECT item_id, name, create_time FROM items WHERE item_id > $1 ORDER BY item_id LIMIT $2";
    let page = sqlx::query(page).bind(after).bind(limit).try_map(read).fetch_all(store.reader()).await?;
    Ok(page.into_iter().map(|item| ItemAdded { item: Some(item.into()) }.into()).collect())
}

fn read(row: AnyRow) -> sqlx::Result<Item> {
    let id: String = row.try_get("item_id")?;
    let id = id.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(Item { id, name: row.try_get("name")?, create_time: row.try_get("create_time")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::mesh::events::v1::SubscribeRequest;
    use contracts::mesh::events::v1::events_service_client::EventsServiceClient;
    use mesh::testing::Mesh;
    use tokio::sync::mpsc;

    /// The only text of each row.
    async fn texts(store: &Store, select: &'static str) -> Vec<String> {
        let rows = sqlx::query(select).fetch_all(store.reader()).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    #[tokio::test]
    async fn item_and_event_commit_together() {
        let (sender, mut stores) = mpsc::unbounded_channel();
        let service = mesh::Service::new("sample", contracts::FILE_DESCRIPTOR_SET).owns(crate::MIGRATIONS);
        let service = service.publishes(move |store: Store, after, limit| {
            sender.send(store.clone()).unwrap();
            snapshot(store, after, limit)
        });
        let mesh = Mesh::start(service).await;
        let request = SubscribeRequest { source: "sample".to_owned(), ..SubscribeRequest::default() };
        let mut events = EventsServiceClient::new(mesh.channel("sample"));
        events.subscribe(request).await.unwrap().into_inner().message().await.unwrap();
        let store = stores.recv().await.unwrap();

        let [kept, dropped] = ["kept", "dropped"].map(|name| Item::new(name.to_owned(), mesh::store::now()));
        let mut tx = store.begin().await.unwrap();
        insert(&mut tx, &dropped).await.unwrap();
        drop(tx);
        let mut tx = store.begin().await.unwrap();
        insert(&mut tx, &kept).await.unwrap();
        tx.commit().await.unwrap();

        let expected = [kept.id.to_string()];
        assert_eq!(texts(&store, "SELECT item_id FROM items").await, expected);
        assert_eq!(texts(&store, "SELECT key FROM events").await, expected);
    }
}

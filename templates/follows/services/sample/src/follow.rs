//! Keeps a copy of what `origin` publishes: the last event of each key.

use contracts::origin::v1::Event;
use mesh::events::{Applying, Events as _, Follow};
use mesh::{Error, Text};
use prost_types::Any;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{AnyExecutor, Row as _};

/// The rule for keys. The contract repeats its words.
pub(crate) const KEY: Text = Text::line(1000);

/// Follows `origin`.
pub(crate) struct Copies;

impl Follow for Copies {
    const SOURCE: &'static str = "origin";
    type Event = Event;

    async fn apply(&self, tx: &mut Applying<'_>, event: Event) -> Result<(), Error> {
        let generation = tx.generation();
        let change = match event {
            Event::SomethingChanged(_) => put(event, generation),
            Event::SomethingRemoved(_) => sqlx::query("DELETE FROM copies WHERE key = $1").bind(event.key().to_owned()),
            Event::Unknown(_) => return Ok(()),
        };
        change.execute(&mut ***tx).await?;
        Ok(())
    }

    async fn sweep(&self, tx: &mut Applying<'_>, before: i64) -> Result<(), Error> {
        sqlx::query("DELETE FROM copies WHERE generation < $1").bind(before).execute(&mut ***tx).await?;
        Ok(())
    }
}

/// The statement that stores an event as the last one of its key. Behind a snapshot it may be older than the row, and
/// later ones follow. Add columns for what queries sort and select by.
fn put(event: Event, generation: i64) -> Query<'static, sqlx::Any, AnyArguments> {
    let put = "INSERT INTO copies (key, type, event, generation) VALUES ($1, $2, $3, $4) ON CONFLICT (key)
        DO UPDATE SET type = excluded.type, event = excluded.event, generation = excluded.generation";
    let (key, event) = (event.key().to_owned(), event.pack());
    sqlx::query(put).bind(key).bind(event.type_url).bind(event.value).bind(generation)
}

/// The last event of a key.
pub(crate) async fn get(database: impl AnyExecutor<'_>, key: &str) -> Result<Option<Any>, Error> {
    let get = sqlx::query("SELECT type, event FROM copies WHERE key = $1").bind(key);
    let read = |row: AnyRow| Ok(Any { type_url: row.try_get("type")?, value: row.try_get("event")? });
    Ok(get.try_map(read).fetch_optional(database).await?)
}

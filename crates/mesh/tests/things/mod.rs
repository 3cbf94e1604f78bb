//! A service that publishes each change of its things, for the tests of events and of followers.

use mesh::events::{Event, Events, Publish as _};
use mesh::store::Error;
use mesh::{Migration, Store};
use prost::{DecodeError, Message as _};
use prost_types::Any;
use sqlx::Row as _;
use sqlx::any::AnyRow;

/// The event of a thing that was made or changed.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Made {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(int64, tag = "2")]
    pub(crate) revision: i64,
}

/// The event of a thing that was removed.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Removed {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

/// What the build script generates for a contract.
macro_rules! event {
    ($name:ident) => {
        impl prost::Name for $name {
            const NAME: &'static str = stringify!($name);
            const PACKAGE: &'static str = "things.v1";

            fn type_url() -> String {
                format!("type.googleapis.com/{}", Self::full_name())
            }
        }

        impl Event for $name {
            fn key(&self) -> &str {
                &self.name
            }
        }
    };
}

event!(Made);
event!(Removed);

/// The events of things.
pub(crate) enum Thing {
    Made(Made),
    Removed(Removed),
    Unknown(Any),
}

impl Events for Thing {
    const TYPES: &'static [&'static str] = &["things.v1.Made", "things.v1.Removed"];

    fn decode(event: Any) -> Result<Self, DecodeError> {
        match event.type_url.rsplit('/').next() {
            Some("things.v1.Made") => Made::decode(event.value.as_slice()).map(Self::Made),
            Some("things.v1.Removed") => Removed::decode(event.value.as_slice()).map(Self::Removed),
            _ => Ok(Self::Unknown(event)),
        }
    }

    fn key(&self) -> &str {
        match self {
            Self::Made(event) => event.key(),
            Self::Removed(event) => event.key(),
            Self::Unknown(_) => "",
        }
    }

    fn pack(self) -> Any {
        match self {
            Self::Made(event) => Any::from_msg(&event).unwrap(),
            Self::Removed(event) => Any::from_msg(&event).unwrap(),
            Self::Unknown(event) => event,
        }
    }
}

pub(crate) const THINGS: &[Migration] =
    &[Migration::new(1, "things", "CREATE TABLE things (name TEXT NOT NULL PRIMARY KEY, revision BIGINT NOT NULL);")];

/// The things behind a name, for new readers.
pub(crate) async fn snapshot(store: Store, after: String, limit: i64) -> Result<Vec<Thing>, Error> {
    let page = sqlx::query("SELECT name, revision FROM things WHERE name > $1 ORDER BY name LIMIT $2");
    let made = |row: AnyRow| Ok(Thing::Made(Made { name: row.try_get(0)?, revision: row.try_get(1)? }));
    Ok(page.bind(after).bind(limit).try_map(made).fetch_all(store.reader()).await?)
}

/// Makes or changes a thing.
pub(crate) async fn make(store: &Store, name: &str) -> Result<(), Error> {
    let mut tx = store.begin().await?;
    let make = "INSERT INTO things (name, revision) VALUES ($1, 1)
        ON CONFLICT (name) DO UPDATE SET revision = things.revision + 1 RETURNING revision";
    let revision = sqlx::query(make).bind(name).fetch_one(&mut *tx).await?.try_get(0)?;
    tx.publish(&Made { name: name.to_owned(), revision })?;
    tx.commit().await
}

/// Removes a thing.
pub(crate) async fn remove(store: &Store, name: &str) -> Result<(), Error> {
    let mut tx = store.begin().await?;
    sqlx::query("DELETE FROM things WHERE name = $1").bind(name).execute(&mut *tx).await?;
    tx.publish(&Removed { name: name.to_owned() })?;
    tx.commit().await
}

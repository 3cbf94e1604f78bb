//! Publishes an event in the transaction that changes the data.

use mesh_proto::Event;
use mesh_rpc::call::Context;
use mesh_store::{Error, Published, Transaction};
use uuid::Uuid;

/// The largest event, encoded: 256 KiB.
const LARGEST: usize = 256 * 1024;

/// Publishing, for the transactions of a service: `tx.publish(&TitleAdded { … })?`. The transactions of steps of long work
/// have it, too.
pub trait Publish {
    /// Adds an event to the transaction, which writes it last. The event exists for others once the transaction has
    /// committed; a rollback leaves nothing of it.
    ///
    /// # Errors
    ///
    /// [`Error::Defect`] if the event has no key, is larger than 256 KiB, or is in a package of another service. A retry
    /// fails again.
    fn publish<E: Event>(&mut self, event: &E) -> Result<(), Error>;
}

impl<T: AsMut<Transaction>> Publish for T {
    fn publish<E: Event>(&mut self, event: &E) -> Result<(), Error> {
        let (tx, kind, size) = (self.as_mut(), E::full_name(), event.encoded_len());
        if kind.split('.').next() != Some(tx.service()) {
            return Err(refused(&kind, &format!("belongs to another service than `{}`", tx.service())));
        }
        if event.key().is_empty() {
            return Err(refused(&kind, "has no key"));
        }
        if size > LARGEST {
            return Err(refused(&kind, &format!("has {size} bytes, and {LARGEST} are allowed")));
        }
        // The events of a transaction have one cause.
        let correlation = tx.appended().first().map_or_else(Uuid::new_v4, |first| first.correlation);
        tx.append(Published {
            id: Uuid::now_v7(),
            key: event.key().to_owned(),
            kind,
            trace: Context::current().trace.to_string(),
            correlation,
            causation: String::new(),
            hops: 0,
            payload: event.encode_to_vec(),
        });
        Ok(())
    }
}

fn refused(kind: &str, problem: &str) -> Error {
    Error::Defect(sqlx::Error::Encode(format!("the event {kind} {problem}").into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_rpc::call::Trace;
    use mesh_store::{Database, LOG, Store, open};
    use prost::Message as _;
    use sqlx::Row as _;

    /// An event of `things`.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Made {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        text: String,
    }

    impl prost::Name for Made {
        const NAME: &'static str = "Made";
        const PACKAGE: &'static str = "things.v1";
    }

    impl Event for Made {
        fn key(&self) -> &str {
            &self.name
        }
    }

    fn made(name: &str, text: &str) -> Made {
        Made { name: name.to_owned(), text: text.to_owned() }
    }

    async fn store(service: &'static str) -> (Store, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("things.db"));
        (open(service, &database, &[LOG], &[]).await.unwrap(), folder)
    }

    #[tokio::test]
    async fn published_event_has_its_key_type_and_trace_and_the_cause_of_its_transaction() {
        let (store, _folder) = store("things").await;
        let trace = Trace::begin();
        let publish = async |names: &[&str]| {
            let mut tx = store.begin().await.unwrap();
            names.iter().for_each(|name| tx.publish(&made(name, "new")).unwrap());
            tx.commit().await.unwrap();
        };
        let context = Context { trace, ..Context::default() };
        context.scope(publish(&["one", "two"])).await;
        publish(&["three"]).await;

        let rows = "SELECT id, key, type, trace, correlation, payload FROM events ORDER BY position";
        let rows = sqlx::query(rows).fetch_all(store.reader()).await.unwrap();
        let text = |row: usize, column: &str| rows[row].get::<String, _>(column);
        assert_eq!([text(0, "key"), text(1, "key"), text(2, "key")], ["one", "two", "three"]);
        assert_eq!([text(0, "type"), text(0, "trace")], ["things.v1.Made".to_owned(), trace.to_string()]);
        assert_eq!(text(0, "correlation"), text(1, "correlation"));
        assert_ne!(text(0, "correlation"), text(2, "correlation"));
        assert_ne!(text(0, "id"), text(1, "id"));
        let payload: Vec<u8> = rows[1].get("payload");
        assert_eq!(Made::decode(payload.as_slice()).unwrap(), made("two", "new"));
    }

    #[tokio::test]
    async fn publish_refuses_an_event_without_a_key_too_large_or_of_another_service() {
        let (store, _folder) = store("things").await;
        let mut tx = store.begin().await.unwrap();
        // The text has a tag and three bytes of its length before it.
        let largest = "x".repeat(LARGEST - made("k", "").encoded_len() - 4);
        tx.publish(&made("k", &largest)).unwrap();
        for (event, problem) in [
            (made("", "x"), "the event things.v1.Made has no key"),
            (made("k", &format!("{largest}x")), "the event things.v1.Made has 262145 bytes, and 262144 are allowed"),
        ] {
            assert!(cause(tx.publish(&event).unwrap_err()).ends_with(problem));
        }
        tx.commit().await.unwrap();

        let (other, _folder) = self::store("thing").await;
        let mut tx = other.begin().await.unwrap();
        let refused = tx.publish(&made("k", "x")).unwrap_err();
        assert_eq!(tonic::Status::from(refused).code(), tonic::Code::Internal);
    }

    fn cause(error: Error) -> String {
        std::error::Error::source(&error).unwrap().to_string()
    }
}

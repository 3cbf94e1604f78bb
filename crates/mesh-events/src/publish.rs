//! Publishes an event in the transaction that changes the data.

use mesh_proto::Event;
use mesh_rpc::call::{Cause, Context, Trace};
use mesh_store::{Error, Published, Transaction};
use uuid::Uuid;

/// The largest event, encoded: 256 KiB.
const LARGEST: usize = 256 * 1024;
/// The most causes that an event has before it.
const MOST_HOPS: u32 = 10;

/// Publishing, for the transactions of a service: `tx.publish(&TitleAdded { … })?`. The transactions of steps of long
/// work have it, too.
pub trait Publish {
    /// Adds an event to the transaction, which writes it last. The event exists for others once the transaction has
    /// committed; a rollback leaves nothing of it.
    ///
    /// # Errors
    ///
    /// [`Error::Defect`] if the event has no key, is larger than 256 KiB, or is in a package of another service.
    /// [`Error::CascadeTooDeep`] if more than 10 events caused each other before it. A retry fails again.
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
        let (trace, cause) = cause_in(tx);
        if cause.hops > MOST_HOPS {
            let (correlation, causation) = (cause.correlation, cause.causation.map(tracing::field::display));
            tracing::error!(
                event = kind,
                key = event.key(),
                %correlation,
                causation,
                hops = cause.hops,
                "events cause each other without an end: `mesh events trace {correlation}` shows them"
            );
            return Err(Error::CascadeTooDeep { hops: cause.hops });
        }
        tx.append(Published {
            id: Uuid::now_v7(),
            key: event.key().to_owned(),
            kind,
            trace: trace.to_string(),
            correlation: cause.correlation,
            causation: cause.causation.map(|id| id.to_string()).unwrap_or_default(),
            hops: cause.hops.into(),
            payload: event.encode_to_vec(),
        });
        if let Some(asked) = Context::wanted() {
            let service = tx.service();
            tx.after_commit(move || asked.note_published(service));
        }
        Ok(())
    }
}

/// The trace and the cause of what this task publishes. Outside of a call and of work, a transaction is a first cause.
fn cause_in(tx: &mut Transaction) -> (Trace, Cause) {
    Context::cause().unwrap_or_else(|| {
        let trace = tx.appended().first().and_then(|first| Trace::parse(&first.trace)).unwrap_or_default();
        (trace, Cause::first(trace))
    })
}

fn refused(kind: &str, problem: &str) -> Error {
    Error::Defect(sqlx::Error::Encode(format!("the event {kind} {problem}").into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_proto::mesh::events::v1::Event as PublishedEvent;
    use mesh_store::{Database, LOG, Store, open};
    use prost::Message as _;
    use sqlx::Row as _;
    use tonic_types::StatusExt as _;

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

    /// Publishes one event in a context, and returns what a stream sends of it.
    async fn publish_in(store: &Store, context: Context) -> Result<PublishedEvent, Error> {
        let mut tx = store.begin().await?;
        context.enter(|| tx.publish(&made("key", "")))?;
        tx.commit().await?;
        let last = "SELECT id, trace, correlation, causation, hops FROM events ORDER BY position DESC LIMIT 1";
        let row = sqlx::query(last).fetch_one(store.reader()).await?;
        let hops: i64 = row.get("hops");
        Ok(PublishedEvent {
            id: row.get("id"),
            traceparent: row.get("trace"),
            correlation_id: row.get("correlation"),
            causation_id: row.get("causation"),
            hops: i32::try_from(hops).unwrap(),
            ..PublishedEvent::default()
        })
    }

    #[tokio::test]
    async fn publish_carries_the_cause_on_and_refuses_the_eleventh_hop() {
        let (store, _folder) = store("things").await;
        let call = Context::default();
        let (trace, first) = (call.trace, publish_in(&store, call).await.unwrap());
        assert_eq!(first.correlation_id, Uuid::from_u128(trace.trace_id).to_string());
        assert_eq!((&*first.causation_id, first.hops), ("", 0));

        let mut last = first.clone();
        for hops in 1..=10 {
            let next = publish_in(&store, Context::of_event(&last)).await.unwrap();
            assert_eq!((&next.correlation_id, &next.causation_id), (&first.correlation_id, &last.id));
            assert_eq!((Trace::parse(&next.traceparent).unwrap().trace_id, next.hops), (trace.trace_id, hops));
            last = next;
        }
        let refused = publish_in(&store, Context::of_event(&last)).await.unwrap_err();
        assert!(matches!(refused, Error::CascadeTooDeep { hops: 11 }));
        let status = tonic::Status::from(refused);
        assert_eq!(status.code(), tonic::Code::FailedPrecondition);
        assert_eq!(status.get_details_error_info().unwrap().reason, "CASCADE_TOO_DEEP");
    }

    #[tokio::test]
    async fn publish_gives_each_event_of_a_batch_its_own_cause() {
        let (store, _folder) = store("things").await;
        let mut tx = store.begin().await.unwrap();
        let calls = [Context::default(), Context::default()];
        for call in &calls {
            call.clone().enter(|| tx.publish(&made("key", ""))).unwrap();
        }
        let correlations = tx.appended().iter().map(|row| row.correlation.as_u128()).collect::<Vec<_>>();
        assert_eq!(correlations, calls.map(|call| call.trace.trace_id));
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

//! Following, as the author of a service writes it: a function that applies one event to the copy.

use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::FutureExt as _;
use mesh_proto::Events;
use mesh_proto::mesh::events::v1::Event;
use mesh_rpc::call::Context;
use mesh_store::{Error, Transaction};
use uuid::Uuid;

use super::failure::Failure;

/// Follows the events of another service.
///
/// ```text
/// impl Follow for Titles {
///     const SOURCE: &'static str = "catalog";
///     type Event = contracts::catalog::v1::Event;
///
///     async fn apply(&self, tx: &mut Applying<'_>, event: Event) -> Result<(), Error> {
///         match event {
///             Event::TitleAdded(added) => store::put(tx, added.title).await,
///             // …
///         }
///     }
/// }
/// ```
pub trait Follow: Send + Sync + 'static {
    /// The service whose events are followed.
    const SOURCE: &'static str;
    /// The events of its contract, such as `contracts::catalog::v1::Event`.
    type Event: Events;

    /// Applies an event, or the present state of a key in a snapshot, in a transaction that also holds the place of the
    /// follower: the effect commits once. Stamp rows with [`Applying::generation`], and keep the row with the later
    /// revision: behind a snapshot, an event may be older than the row. An event of an unknown type does not get here.
    ///
    /// The transaction has other events of the batch in it, and on SQLite holds the one writer. Call no other service
    /// and wait for nothing but its statements: start an operation in it instead.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::Corrupt`] and [`Error::LeaseLost`] are retried until they pass. Any other error
    /// is final: after three attempts the event is parked with the later events of its key, and the rest goes on. So is
    /// a failed statement whose error is ignored on Postgres, which executes nothing more in the transaction.
    fn apply(&self, tx: &mut Applying<'_>, event: Self::Event) -> impl Future<Output = Result<(), Error>> + Send;

    /// Deletes the rows of a generation before this one: the source does not have them any more. It runs when a
    /// snapshot is complete, in one transaction: the time of a statement is limited by `database.statement_timeout`.
    ///
    /// # Errors
    ///
    /// Any error is retried until it passes; the copy is complete only then.
    fn sweep(&self, tx: &mut Applying<'_>, before: i64) -> impl Future<Output = Result<(), Error>> + Send;
}

/// The transaction that applies events. It derefs to [`Transaction`]: `sqlx::query(…).execute(&mut ***tx)`.
pub struct Applying<'a> {
    tx: &'a mut Transaction,
    generation: i64,
    event: Option<Uuid>,
}

impl<'a> Applying<'a> {
    /// Applies to the rows of this generation.
    pub(super) fn new(tx: &'a mut Transaction, generation: i64) -> Self {
        Self { tx, generation, event: None }
    }

    /// The generation that stamps the rows written now. A rebuild of the copy begins a new one.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// The id of the event, such as for a `request_id`; `None` in a snapshot and a sweep.
    pub fn event_id(&self) -> Option<Uuid> {
        self.event
    }
}

impl Deref for Applying<'_> {
    type Target = Transaction;
    fn deref(&self) -> &Transaction {
        self.tx
    }
}

impl DerefMut for Applying<'_> {
    fn deref_mut(&mut self) -> &mut Transaction {
        self.tx
    }
}

impl AsMut<Transaction> for Applying<'_> {
    fn as_mut(&mut self) -> &mut Transaction {
        self.tx
    }
}

/// Whether a type of event is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Yes,
    /// The event is of a later version of the contract.
    No,
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// A [`Follow`] without its types.
pub(super) trait Apply: Send + Sync {
    fn apply<'a>(&'a self, tx: &'a mut Applying<'_>, event: &'a Event) -> Boxed<'a, Known>;
    fn sweep<'a>(&'a self, tx: &'a mut Applying<'_>) -> Boxed<'a, ()>;
}

impl<F: Follow> Apply for F {
    fn apply<'a>(&'a self, tx: &'a mut Applying<'_>, event: &'a Event) -> Boxed<'a, Known> {
        Box::pin(async move {
            let data = event.data.clone().unwrap_or_default();
            if !data.type_url.rsplit('/').next().is_some_and(|name| F::Event::TYPES.contains(&name)) {
                return Ok(Known::No);
            }
            let decoded = F::Event::decode(data).map_err(|error| Failure::Poison(error.to_string()))?;
            tx.event = event.id.parse().ok();
            // What it publishes or starts has the event as its cause.
            let applied = Context::of_event(event).scope(caught(Follow::apply(self, tx, decoded))).await;
            tx.event = None;
            applied.map(|()| Known::Yes)
        })
    }

    fn sweep<'a>(&'a self, tx: &'a mut Applying<'_>) -> Boxed<'a, ()> {
        Box::pin(async move {
            let before = tx.generation;
            caught(Follow::sweep(self, tx, before)).await
        })
    }
}

/// Runs the code of a follower. A panic is a failure of the event.
async fn caught(running: impl Future<Output = Result<(), Error>>) -> Result<(), Failure> {
    match AssertUnwindSafe(running).catch_unwind().await {
        Ok(result) => result.map_err(|error| Failure::of(&error)),
        Err(panic) => Err(Failure::Poison(format!("it panicked: {}", text_of(&*panic)))),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}

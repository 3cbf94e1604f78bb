//! A saga, as the author of a service writes it: long work with a way back.
//!
//! ```text
//! impl Saga for Rent {
//!     const KIND: &'static str = "RentTitle";
//!     const STEPS: &'static [Step] = &[Step::local("reserve"), Step::remote("charge").pivot(), Step::local("grant")];
//!     type Request = RentTitleRequest;
//!     type Response = RentTitleResponse;
//!     type Error = Error;
//!
//!     async fn run(&self, saga: &Forward, request: RentTitleRequest) -> Result<RentTitleResponse, Error> {
//!         // …
//!     }
//!
//!     async fn undo(&self, saga: &Undo, step: &str, request: &RentTitleRequest) -> Result<(), Error> {
//!         // …
//!     }
//! }
//! ```
//!
//! Guarantees:
//! - A done operation is whole: it has succeeded, or each step that began is undone.
//! - A remote step is stored as begun before its call is sent, so that a call without an answer is undone, too.
//! - Until the pivot has its answer, a final failure, the last attempt, a cancellation or the deadline makes the saga
//!   undo its steps. Afterwards it only goes on.
//!
//! Does not: isolate. Others see what a step has done before the saga ends.
//!
//! See: docs/guide/sagas.md, decision 0035

use std::time::Duration;

use prost::{Message, Name};
use tonic::Status;

pub use super::forward::{Forward, LocalStep};
pub use super::plan::Step;
pub use super::undo::{LocalUndo, Undo};

/// One kind of saga.
pub trait Saga: Send + Sync + 'static {
    /// As [`Work::KIND`](super::Work::KIND). It must never change.
    const KIND: &'static str;
    /// The steps. The names must never change: sagas outlive processes, and one that has begun a step which is not here
    /// is stuck.
    const STEPS: &'static [Step];
    /// The time in which the saga must get the answer of its pivot, or end, attempts and pauses included.
    const DEADLINE: Duration = Duration::from_secs(3600);
    /// The most attempts before the saga undoes its steps, from 1. A drain does not count as an attempt.
    const ATTEMPTS: u32 = 5;
    /// The default of [`concurrency`](Self::concurrency).
    const CONCURRENCY: usize = 8;

    /// The message that starts the saga. Its encoding is stored as the input.
    type Request: Message + Name + Default + 'static;
    /// The message that the saga ends with.
    type Response: Message + Name + 'static;
    /// The error of the saga. Its status decides, as [`Work::Error`](super::Work::Error) does: a code that is not
    /// retried makes the saga undo its steps, or stuck if it cannot.
    type Error: Into<Status> + From<mesh_store::Error> + Send;

    /// The most sagas of this kind that one process runs at the same time, from 1. Override it to make it a setting.
    fn concurrency(&self) -> usize {
        Self::CONCURRENCY
    }

    /// Runs the steps. A further attempt runs it again from the start: [`Forward`] skips the steps that are done.
    ///
    /// # Errors
    ///
    /// See [`Error`](Self::Error).
    fn run(
        &self,
        saga: &Forward,
        request: Self::Request,
    ) -> impl Future<Output = Result<Self::Response, Self::Error>> + Send;

    /// Undoes one step, in the reverse of the order in which they began. The step is done, or has begun without a known
    /// outcome, or was declined: undo what there is. It runs at least once, until it returns `Ok`; a step that needs no
    /// undoing returns `Ok` at once.
    ///
    /// # Errors
    ///
    /// With a code that is retried: it runs again, with a pause up to 1 min, for an hour; then the saga is stuck. With
    /// any other code it is stuck at once.
    fn undo(
        &self,
        saga: &Undo,
        step: &str,
        request: &Self::Request,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

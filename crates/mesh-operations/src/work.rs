//! Long work, as the author of a service writes it: an async function from a request to a response.
//!
//! ```text
//! impl Work for Render {
//!     const KIND: &'static str = "RenderArtwork";
//!     type Request = RenderArtworkRequest;
//!     type Response = RenderArtworkResponse;
//!     type Error = Error;
//!
//!     async fn run(&self, attempt: &Attempt, request: RenderArtworkRequest) -> Result<RenderArtworkResponse, Error> {
//!         // …
//!     }
//! }
//! ```
//!
//! The worker drops the future when the operation is cancelled or past its deadline, when the process drains, and when
//! the lease is lost. Committed steps stay, and the next attempt does not repeat them.

use std::time::Duration;

use prost::{Message, Name};
use tonic::Status;

use super::attempt::Attempt;
use super::ended::Ended;

/// One kind of long work.
pub trait Work: Send + Sync + 'static {
    /// The name of the work in logs and in the database, such as the name of the RPC that starts it. It must never
    /// change: operations outlive processes.
    const KIND: &'static str;
    /// The time that an operation may take in all, attempts and pauses included.
    const DEADLINE: Duration = Duration::from_secs(3600);
    /// The most attempts at an operation, from 1. A drain does not count as an attempt.
    const ATTEMPTS: u32 = 5;
    /// The default of [`concurrency`](Self::concurrency).
    const CONCURRENCY: usize = 2;

    /// The message that starts the work. Its encoding is stored as the input.
    type Request: Message + Name + Default + 'static;
    /// The message that the work ends with.
    type Response: Message + Name + 'static;
    /// The error of the work. Its status decides about a retry: UNAVAILABLE, ABORTED, RESOURCE_EXHAUSTED,
    /// DEADLINE_EXCEEDED, INTERNAL and UNKNOWN, and a panic, are retried. Any other code is final.
    type Error: Into<Status> + From<mesh_store::Error> + Send;

    /// The most operations of this kind that one process works on at the same time, from 1. Override it to make it a
    /// setting.
    fn concurrency(&self) -> usize {
        Self::CONCURRENCY
    }

    /// Does the work. An attempt after a crash runs it again from the start: skip the steps that
    /// [`Attempt::finished`] knows.
    ///
    /// # Errors
    ///
    /// See [`Error`](Self::Error).
    fn run(
        &self,
        attempt: &Attempt,
        request: Self::Request,
    ) -> impl Future<Output = Result<Self::Response, Self::Error>> + Send;

    /// Cleans up after an operation that failed or was cancelled, whatever ended it: deletes rows that its steps left,
    /// or undoes their calls to peers. Does nothing by default.
    ///
    /// It runs after the end is durable and visible, at least once, in any process that works on this kind, and never
    /// after a success. The work itself may have committed its last step: check that nothing in use is deleted. A run
    /// may take 20 s. After an error, a panic or a crash it runs again, with a pause of 1 s that doubles up to 1 h,
    /// until it returns `Ok` or the operation is older than `operations.keep`.
    ///
    /// # Errors
    ///
    /// Any error: the clean-up runs again.
    fn clean_up(&self, ended: &Ended, request: Self::Request) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = (ended, request);
        async { Ok(()) }
    }
}

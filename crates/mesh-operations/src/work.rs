//! Long work as the author of a service writes it: an async function from a request to a response.
//!
//! ```ignore
//! impl Work for Render {
//!     const KIND: &'static str = "RenderArtwork";
//!     type Request = RenderArtworkRequest;
//!     type Response = RenderArtworkResponse;
//!     type Error = Error;
//!
//!     async fn run(&self, attempt: &Attempt, request: RenderArtworkRequest) -> Result<RenderArtworkResponse, Error> {
//!         …
//!     }
//! }
//! ```
//!
//! The future is dropped when the operation is cancelled, when it is past its deadline, when the process drains, or when
//! the lease is lost. Steps that it has committed stay, and the next attempt does not do them again.

use std::time::Duration;

use prost::{Message, Name};
use tonic::Status;

use super::attempt::Attempt;

/// One kind of long work.
pub trait Work: Send + Sync + 'static {
    /// What the work is called in logs and in the database; the name of the RPC that starts it is a good one. It must
    /// never change, for operations outlive processes.
    const KIND: &'static str;
    /// How long an operation may take in all, attempts and pauses included.
    const DEADLINE: Duration = Duration::from_secs(3600);
    /// How often it is begun before it fails for good. A drain does not count.
    const ATTEMPTS: u32 = 5;
    /// How many of these one process works on at the same time, unless [`concurrency`](Self::concurrency) says otherwise.
    const CONCURRENCY: usize = 2;

    /// What it is started with.
    type Request: Message + Default + 'static;
    /// What it ends with.
    type Response: Message + Name + 'static;
    /// How it fails. The status decides: UNAVAILABLE, ABORTED, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED, INTERNAL and
    /// UNKNOWN (and a panic) are tried again, anything else is final.
    type Error: Into<Status> + From<mesh_store::Error> + Send;

    /// How many of these one process works on at the same time, from 1: override it to make that a setting.
    fn concurrency(&self) -> usize {
        Self::CONCURRENCY
    }

    /// Does it.
    fn run(
        &self,
        attempt: &Attempt,
        request: Self::Request,
    ) -> impl Future<Output = Result<Self::Response, Self::Error>> + Send;
}

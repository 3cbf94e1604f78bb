//! Calls to a peer: one cheap-to-clone [`Channel`] under every typed client, wherever the peer runs.
//!
//! From the outside in: [`channel`] gives a call its place in the trace and its [`deadline`]; a peer in this process is
//! then called through the server's layers. For a peer in another process, [`retry`] tries again within a budget,
//! [`endpoints`] picks an instance, [`attempt`] makes one attempt at an [`endpoint`] and reports how it went,
//! `outlier` ejects endpoints that fail and `probe` takes them back, and [`connections`] carries the bytes.
//! [`discover`] is what a source of instances implements.

pub mod attempt;
pub mod channel;
pub mod connections;
pub mod deadline;
pub mod discover;
pub mod endpoint;
pub mod endpoints;
pub mod failure;
mod instance;
mod outlier;
mod probe;
pub mod retry;

pub use channel::{Channel, Peers};
pub use discover::Discover;
pub use endpoints::Endpoints;
pub use instance::Instance;

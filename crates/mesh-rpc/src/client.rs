//! The client: one [`Channel`] under every typed client, wherever the peer runs.
//!
//! From the outside in:
//! - [`channel`] sets the position in the trace and the [`deadline`], and checks that the service declares the call
//!   (`declared`). A peer in this process is called through the server's layers.
//! - [`retry`] retries calls to a peer in other processes, within a budget.
//! - [`endpoints`] picks an instance.
//! - [`attempt`] makes one attempt at an [`endpoint`]. `outlier` ejects endpoints that fail, and `probe` reinstates
//!   them.
//! - [`connections`] sends the request on a connection of `http2`; `confirmed` waits until a peer has accepted a
//!   certificate, and `greeting` notices a peer that speaks another protocol, each as a watch of a `watched` stream.
//!
//! `direct` calls one address, without all of that but the connections.
//!
//! [`discover`] is the trait of a source of instances. [`failure`] has the client's own errors.

pub mod attempt;
mod buffer;
pub mod channel;
mod confirmed;
pub mod connections;
pub mod deadline;
mod declared;
mod direct;
pub mod discover;
pub mod endpoint;
pub mod endpoints;
pub mod failure;
mod greeting;
mod http2;
mod instance;
mod outlier;
mod probe;
pub mod retry;
mod retry_pause;
mod watched;

pub use channel::{Calling, Channel, Peers};
pub use declared::Declared;
pub use direct::Direct;
pub use discover::Discover;
pub use endpoints::Endpoints;
pub use http2::{Broken, Received};
pub use instance::Instance;

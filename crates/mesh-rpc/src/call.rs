//! A call: its request and its method, what travels with it, how it fails, and what answers it.
//!
//! [`Call`] is a request whose method is known; a [`Handler`] answers it. [`Context`] travels with it: deadline, trace and
//! caller. [`Methods`] is the method table. [`error`] has the failures, [`page`] the paging of lists.

pub mod body;
mod caller;
mod context;
mod descriptor;
pub mod error;
mod handler;
mod headers;
mod method;
pub mod page;
mod timeout;
mod trace;
mod trace_state;

pub use caller::Caller;
pub use context::Context;
pub use error::Violations;
#[cfg(test)]
pub(crate) use handler::tests;
pub use handler::{Answering, Call, GrpcService, GrpcServices, Handler, add, handler};
pub use method::{IdempotencyLevel, Method, Methods, OWN as OWN_DESCRIPTORS};
pub use timeout::{read_timeout, write_timeout};
pub use trace::Trace;
pub use trace_state::{read_trace_state, write_trace_state};

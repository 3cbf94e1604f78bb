//! A call: its method, its context, its errors and its handlers.
//!
//! [`Call`] is a request with its method, and a [`Handler`] answers it. [`Context`] carries the deadline, the trace,
//! the caller, the [`Cause`] and the [`Consistency`] that the caller asks for. [`Methods`] is the method table.
//! [`error`] has the errors, [`peer`] those of peers, [`pushback`] the invitations to retry, [`compression`] the
//! compression of messages, [`page`] the paging of lists, [`plain`] HTTP on the way of a call, [`Text`] the rules for
//! texts.

pub mod body;
mod caller;
mod cause;
pub mod compression;
mod consistency;
mod context;
mod descriptor;
pub mod error;
mod handler;
mod headers;
mod method;
mod outside;
pub mod page;
pub mod peer;
pub mod plain;
pub mod pushback;
mod text;
mod timeout;
mod trace;
mod trace_state;
mod windows;

pub use caller::{Caller, OPERATOR};
pub use cause::Cause;
pub use consistency::{Consistency, MESH_CONSISTENCY, Token};
pub use context::{Context, PeerAnswers};
pub use error::Violations;
#[cfg(test)]
pub(crate) use handler::tests;
pub use handler::{Answering, Call, Connection, GrpcServer, GrpcService, GrpcServices, Handler, Local, add, handler};
pub use mesh_token::User;
pub use method::{Access, HttpMethods, IdempotencyLevel, Method, Methods, OWN as OWN_DESCRIPTORS, Protocol};
pub use outside::strip as strip_reserved;
pub use text::Text;
pub use timeout::{read_timeout, within, write_timeout};
pub use trace::Trace;
pub use trace_state::{read_trace_state, write_trace_state};
pub(crate) use windows::{CONNECTION_WINDOW, STREAM_WINDOW};

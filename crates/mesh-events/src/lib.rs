//! Events: what a service publishes when it changes its data, and the streams that follow it.
//!
//! Modules, in reading order: [`publish`] adds an event to the transaction that changes the data; [`source`] is what a
//! service publishes, and its `log`; `subscribe` is a stream of it, `list` finds events by their first cause, and
//! [`api`] serves the contract; [`reader`] reads all of it, for a carrier; [`settings`] has the time that events are
//! kept, and [`retention`] deletes older ones. The log is numbered and written by mesh-store; streams are those of
//! mesh-feed.
//!
//! Guarantees:
//! - An event commits with the change that it describes, or not at all.
//! - Events have positions without holes, in the order of the commits of each key.
//! - A stream that resumes behind its cursor misses no event that is kept, and is told if one is not.
//!
//! Does not: send events to a broker, which mesh-carrier does, or wait for a reader.

pub mod api;
mod list;
mod log;
pub mod publish;
pub mod reader;
pub mod retention;
pub mod settings;
pub mod source;
mod subscribe;

pub use api::{CONTRACT, serve};
pub use publish::Publish;
pub use reader::{End, Reader};
pub use retention::delete_old;
pub use settings::Keep;
pub use source::{Published, Publishes};

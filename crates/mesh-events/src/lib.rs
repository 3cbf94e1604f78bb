//! Events: what a service publishes when it changes its data.
//!
//! Modules, in reading order: [`publish`] adds an event to the transaction that changes the data; [`settings`] has the
//! time that events are kept, and [`retention`] deletes older ones. The log that numbers and holds the events is in
//! mesh-store.
//!
//! Guarantees:
//! - An event commits with the change that it describes, or not at all.
//! - Events have positions without holes, in the order of the commits of each key.
//!
//! Does not: send events to a broker, or wait for a reader.

pub mod publish;
pub mod retention;
pub mod settings;

pub use publish::Publish;
pub use retention::delete_old;
pub use settings::Keep;

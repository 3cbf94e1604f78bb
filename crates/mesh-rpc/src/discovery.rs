//! Discovery: finds the services of other processes, and registers the services of this one.
//!
//! The key `registry` selects the source: `local` (no other processes), `static` (configured addresses) or `consul` (a
//! Consul agent). A [`Channel`](crate::client::Channel) sees a set of instances that discovery replaces.
//!
//! Guarantees:
//! - A process starts, serves and stops without its agent (INV-8).
//! - An agent that does not answer delays the first call to a peer, and a drain by at most one second.

mod agent;
mod entry;
mod follow;
mod register;
mod settings;
mod source;

pub use entry::Registrant;
pub use register::Registered;
pub use settings::{Advertise, Consul, Registry};
pub use source::Discovery;

//! Discovery: finds the services of other processes, and registers the services of this one.
//!
//! The key `registry` selects the source: `local` (no other processes), `static` (configured addresses), `dns` (host
//! names after a pattern) or `consul` (a Consul agent). A [`Channel`](crate::client::Channel) sees a set of instances
//! that discovery replaces.
//!
//! Guarantees:
//! - A process starts, serves and stops without its agent (INV-8).
//! - A host name that cannot be resolved stops no process and delays no start.
//! - An agent that does not answer delays the first call to a peer, and a drain by at most one second.

mod address;
mod agent;
mod dns;
mod entry;
mod follow;
mod intentions;
mod look;
mod register;
mod settings;
mod source;

pub use address::{Address, Pattern};
pub use entry::Registrant;
pub use look::{Seen, is_passing, is_service};
pub use register::Registered;
pub use settings::{Advertise, Consul, Registry, take_peers};
pub use source::Discovery;

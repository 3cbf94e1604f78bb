//! Where the services of other processes are, and how other processes find those of this one.
//!
//! Three sources, chosen by the key `registry`: `local` (there are no other processes), `static` (addresses in the
//! configuration), `consul` (an agent of Consul). A [`Channel`](crate::client::Channel) only sees a set of instances that
//! is replaced from time to time.
//!
//! Guarantees: a process starts, serves and ends whether its agent can be reached or not. An agent that does not answer
//! costs the first call to a peer, and a second of a drain.

mod agent;
mod fixed;
mod follow;
mod register;
mod settings;
mod source;

pub use register::{Registered, Registrant};
pub use settings::{Advertise, Consul, Registry};
pub use source::Discovery;

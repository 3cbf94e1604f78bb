//! Follows long work, whatever happens to the connection on the way: [`watch_until_done`] follows one operation,
//! [`Subscription`] all operations of a caller at one service.
//!
//! Both work over any [`Channel`]: tonic's for a caller outside of mesh, and the channel that a service has to its peer, in
//! memory or over the network.
//!
//! Guarantees: a stream that breaks is resumed by its cursor, so no state change is missed and none is seen twice. A
//! server that is silent for 30 s counts as gone.
//!
//! Does not: give up. Put a [`tokio::time::timeout`] around a call to bound it.

mod channel;
mod resume;
mod subscription;
mod watch;

pub use channel::Channel;
pub use subscription::Subscription;
pub use watch::watch_until_done;

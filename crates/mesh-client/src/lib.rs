//! Follows streams across reconnects: [`OperationWatch`] and [`watch_until_done`] follow one operation,
//! [`Subscription`] all operations of a caller at one service, [`EventSubscription`] the events of a service.
//! [`resume`] has the rules for streams of other kinds, [`operation`] reads what a message of an operation says.
//!
//! All are generic over the [`GrpcChannel`]: tonic's for a caller outside the mesh, or the channel of a service to its
//! peer, in memory or over the network. [`Bearer`] sends the token of a user over one.
//!
//! Guarantees:
//! - A stream that breaks resumes by its cursor: no state change is missed, and none is seen twice.
//! - A server that is silent for 30 s counts as failed.
//!
//! Does not: limit the total time. Put a [`tokio::time::timeout`] around a call.

mod bearer;
mod channel;
mod events;
pub mod operation;
pub mod resume;
mod resuming;
mod subscription;
mod watch;

pub use bearer::{Bearer, TOKEN, WithToken};
pub use channel::GrpcChannel;
pub use events::EventSubscription;
pub use subscription::Subscription;
pub use watch::{OperationWatch, WatchFrame, watch_until_done};

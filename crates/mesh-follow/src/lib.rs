//! Following: a service keeps a copy of its own of what another service publishes.
//!
//! Modules, in reading order: [`follow`] is what the author of a service writes; [`follower`] is what follows one
//! source, `run` takes its lease, and `holder` follows under it: it reads a `stream` in batches, and `applier` applies
//! them, by `batch` or one by one; both move the `place` in the same transaction, in its `row`. `parked` has the events
//! that could not be applied, and `failure` says what to do about a failure. [`copy`] tells calls whether the copy is
//! complete, `reached` how far it is, and `seen` what the source last sent. `schema` has the tables. `api` serves
//! operators: `state` shows a follower, `repair` retries and skips parked events and begins a rebuild.
//!
//! Guarantees:
//! - An event takes effect once, whatever fails: the effect and the place behind it commit together.
//! - Of the processes with one database, one applies. The batch of a process that lost its lease changes nothing.
//! - A source that is away leaves the service ready, with its copy.
//!
//! Does not: follow through a broker, or order events of different keys.

mod api;
mod applier;
mod batch;
mod copy;
mod failure;
mod follow;
mod follower;
mod holder;
mod parked;
mod place;
mod reached;
mod repair;
mod row;
mod run;
mod schema;
mod seen;
mod state;
mod stream;

pub use api::{CONTRACT, serve};
pub use copy::Copied;
pub use follow::{Applying, Follow};
pub use follower::Follower;
pub use schema::FOLLOWERS;

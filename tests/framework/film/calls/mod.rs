//! Calls between services while an instance dies, is replaced, stalls or fails, and while the network fails.
//!
//! - A killed instance fails no idempotent call, and is ejected within a second ([`killed`]).
//! - A rolling restart fails no call ([`rolling`]).
//! - Restarts behind a balancer that probes health fail no call ([`balanced`]).
//! - An instance that never answers delays only the calls it received, by their deadline ([`silent`]).
//! - A deadline reaches the last of four hops and gets shorter on the way. When it passes, and when the caller
//!   disconnects, all four stop ([`deadlines`]).
//! - When every instance fails, retries stay within their budget ([`storms`]).
//! - A call that is not idempotent is not retried once an instance may have received it ([`storms`], [`killed`]).
//! - After a network failure, calls recover without a restart ([`partitions`]).
//! - A failure of a peer is not that of the service that called it ([`failures`]).
//! - A host name stands for all of its addresses, and is looked up again ([`names`], `name_server`).
//!
//! The caller is a `mesh::Channel` in a process of its own: a `hop` (crates/mesh/examples/hop.rs), which passes on the
//! calls of the test. Its peers are real catalogs that share a Postgres, or hops again, which record every call they
//! receive: so attempts are counted where they arrive.

mod balanced; // restarts behind a balancer that probes
mod catalogs; // replicas that share a database
mod deadlines; // four hops
mod failures; // a peer fails
pub(crate) mod hops; // processes that pass calls on, and their records
mod killed; // an instance is killed
pub(crate) mod load; // a caller with a steady rate
#[cfg(target_os = "linux")]
mod name_server; // peers that a name server knows
mod names; // peers at host names
mod partitions; // the network fails
mod rolling; // instances are replaced one by one
mod silent; // an instance that never answers
mod storms; // all instances fail

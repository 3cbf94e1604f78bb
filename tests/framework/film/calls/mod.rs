//! What must hold of calls between services when an instance dies, is replaced, stands still or fails, and when the
//! network between them does.
//!
//! - An instance that is killed costs no idempotent call, and is left out within a second ([`killed`]).
//! - A rolling restart costs no call at all ([`rolling`]).
//! - An instance that never answers costs the calls it got their time, and no other call anything ([`silent`]).
//! - A deadline travels to the last of four hops and gets shorter on the way. When it is over, and when the caller goes
//!   away, all four stop ([`deadlines`]).
//! - When everything fails, callers do not make it worse ([`storms`]).
//! - What must not be repeated is not, once it may have been received ([`storms`], [`killed`]).
//! - When a network is whole again, so are the calls, without a restart ([`partitions`]).
//!
//! The caller is the kit's own channel in a process of its own: a `hop` (crates/mesh/examples/hop.rs) that passes on what
//! the test asks it. Whom it calls are real catalogs that share a Postgres, or hops again, which write down what they
//! get: what was tried is counted where it arrived.

mod catalogs; // replicas that share a database
mod deadlines; // four hops
pub(crate) mod hops; // processes that pass calls on, and what they have seen
mod killed; // an instance dies
pub(crate) mod load; // somebody who calls at a steady rate
mod partitions; // the network goes away
mod rolling; // one instance after the other is replaced
mod silent; // an instance that never answers
mod storms; // all instances fail

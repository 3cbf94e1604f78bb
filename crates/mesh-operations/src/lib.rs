//! Long work, and its caller's notice when it is done.
//!
//! A caller starts an operation with a unary call and follows it by a stream. Service, caller and connection may die at any
//! moment, so nothing that matters lives in memory: an operation is a row, and each change of it is one more row in a
//! feed, written in the transaction that makes the change.
//!
//! Guarantees:
//! 1. What a stream sends is read from the database. A notification says "look again"; a lost one costs latency.
//! 2. State, revision and feed row commit together. Revisions of an operation are dense, so a cursor is a revision.
//! 3. A worker holds a lease and a fence. Each claim raises the fence, and each write of a worker is for its fence: a
//!    worker whose lease ended writes nothing, and learns it.
//! 4. A step that was committed is not done again. Its result and its rows are one transaction.
//! 5. The end comes once. A done operation never changes, and has a response or an error.
//! 6. An operation belongs to a [`Caller`](mesh_rpc::call::Caller), which is never a field of a request. For other callers
//!    it does not exist.
//!
//! Modules, in reading order: [`work`] and [`attempt`] are for the author of a service, [`operations`] starts an operation.
//! `row` is an operation, `schema` its tables; `storage`, `leases` and `steps` read and write them, `changes` writes
//! changes with their feed rows, `batcher` writes together what comes together. `worker` claims and runs, `outcome` says
//! what the end of an attempt means, `overdue` ends what is past its deadline. `api` serves the contract, `watch` and
//! `subscribe` its streams, `retry` starts a failed operation again, `filter` and `list` list. `poll` notices what other
//! processes change, `retention` deletes.

mod api;
pub mod attempt;
mod batcher;
mod changes;
mod clock;
mod filter;
mod leases;
mod list;
mod name;
pub mod operations;
mod outcome;
mod overdue;
mod poll;
mod records;
mod retention;
mod retry;
mod row;
mod schema;
mod settings;
pub mod start;
mod steps;
mod storage;
mod subscribe;
mod watch;
pub mod work;
mod worker;

pub use api::serve;
pub use attempt::{Attempt, Step};
pub use batcher::Queue;
pub use operations::Operations;
pub use overdue::end_overdue;
pub use retention::delete_old;
pub use schema::SCHEMA;
pub use settings::Retention;
pub use start::Start;
pub use work::Work;
pub use worker::{Kind, Workers};

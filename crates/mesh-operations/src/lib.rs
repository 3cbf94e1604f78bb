//! Long work: a call starts an operation, a worker runs it under a lease, and its caller follows it by a stream.
//!
//! Service, caller and connection may fail at any moment, so all state is in the database: an operation is a row, and
//! each change of it is a row of the feed, in the same transaction.
//!
//! Modules, in reading order: [`work`] and [`attempt`] are for the author of a service; [`start`] and [`operations`]
//! start an operation. [`saga`] is work with a way back: `forward` and `undo` are its handles, `journal` its steps.
//! `row` is an operation and `schema` its tables; `storage`, `leases`, `steps` and `saga_steps` read and write them;
//! `changes` writes changes with their feed rows; `batcher` writes changes together; `records` is what these share.
//! `kind` is a kind of either without its types; `housekeeping` starts work by its `schedule`; `worker` claims
//! operations and `runner` runs them; `outcome` decides the next state after an attempt, `failure` what callers see of
//! its error; `past_deadline` ends operations past their deadline. `clean_up` cleans up after an end without success;
//! `ended` is what it knows of the operation, and `clean_ups` its table. `api` serves the contracts, `events` the
//! streams `watch` and `subscribe` of `sources`, `control` retries a failed operation and resumes a stuck saga,
//! `filter` and `list` list operations, `name` parses names. `poll` finds changes by other processes; `retention`
//! deletes.
//!
//! Guarantees:
//! 1. What a stream sends is read from the database. A lost notification costs latency only (INV-11).
//! 2. State, revision and feed row commit together (INV-12). Revisions of an operation are dense, so a cursor is a
//!    revision.
//! 3. A worker holds a lease and a fencing token, the fence. Each claim raises the fence, and the database refuses
//!    writes under an older one.
//! 4. A committed step is not repeated. Its result and its rows are in one transaction.
//! 5. An operation ends once. A done operation never changes, and has a response or an error.
//! 6. An operation that ended without success is cleaned up after, at least once.
//! 7. A saga that ended is whole: it has succeeded, or each step that began is undone.
//! 8. An operation belongs to a [`Caller`](mesh_rpc::call::Caller), which is never a field of a request. For other
//!    callers it does not exist.
//!
//! Does not: make effects outside the database happen once, or cancel at once.
//!
//! See: docs/operate/operations.md, docs/guide/long-work.md

mod api;
mod attempt;
mod batcher;
mod changes;
mod clean_up;
mod clean_ups;
mod clock;
mod control;
mod ended;
mod events;
mod failure;
mod filter;
mod forward;
mod housekeeping;
mod ids;
mod journal;
mod kind;
mod leases;
mod list;
mod name;
mod operations;
mod outcome;
mod past_deadline;
mod plan;
mod poll;
mod records;
mod retention;
mod row;
mod runner;
pub mod saga;
mod saga_steps;
mod schedule;
mod schema;
mod settings;
mod sources;
mod start;
mod steps;
mod storage;
mod subscribe;
mod undo;
mod watch;
mod work;
mod worker;

pub use api::{CONTRACTS, serve};
pub use attempt::{Attempt, Step};
pub use batcher::Queue;
pub use ended::Ended;
pub use kind::Kind;
pub use operations::Operations;
pub use past_deadline::end_past_deadline;
pub use retention::delete_old;
pub use schema::SCHEMA;
pub use settings::Retention;
pub use start::Start;
pub use work::Work;
pub use worker::Workers;

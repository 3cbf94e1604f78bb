//! A page that shows the processes of a mesh at work: services, calls, long work, events, failures, logs, contracts and the
//! configuration in force.
//!
//! Each process keeps its own counters and streams them (`mesh.inspect.v1`). A [`Dashboard`] follows all processes that its
//! [`Members`] find, while a page is open, and answers HTTP under `/dashboard/`. It has no store: a process that ends takes its
//! counters with it, and history is for Prometheus.
//!
//! From the outside in:
//! - `routes` answers a request, after `guard` has let it pass. `files` has the page, `events` its stream, `answer` is
//!   JSON and its errors.
//! - `follow` follows the processes: `member` one of them, `work` the long work of one service. `hub` has what is `known`, and
//!   `state` the same as rows of JSON, which `rows` makes.
//! - `ask` answers what a page asks for once, `contracts` and `described` are those of processes, `trial` makes a call for a reader.
//! - [`Members`] finds processes, [`Settings`] are the keys under `dashboard`.
//!
//! Guarantees:
//! - A process that hangs delays no other row: each is followed by a task of its own.
//! - Without a reader, nothing is followed after [`IDLE`](follow::IDLE).
//! - Metadata only: no message of a call is in the page, but those of calls that its reader makes.
//!
//! Does not: keep history, or start and stop processes.

mod answer;
mod ask;
mod contracts;
mod dashboard;
mod described;
mod events;
mod files;
mod follow;
mod guard;
mod hub;
mod known;
mod member;
mod members;
mod routes;
mod rows;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod trial;
mod work;

pub use dashboard::Dashboard;
pub use hub::Own;
pub use members::{CALLER, Channel, Channels, Listed, Member, Members, channel};
pub use settings::{Mode, Settings};

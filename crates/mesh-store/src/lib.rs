//! The database that a service owns: a file of its own by default, a Postgres by URL, the same SQL and the same
//! migrations.
//!
//! Services write portable SQL: `$1` for parameters; TEXT, BIGINT, DOUBLE PRECISION and BYTEA for columns; booleans as 0
//! and 1; times as microseconds since 1970. Where the two databases differ, [`dialect`] does.
//!
//! SQLite has one writer, so writes go through one connection and wait their turn in this process, where the wait is fair
//! and visible. Transactions that wait become durable together (`group`). Reads have connections of their own and, with
//! the write-ahead log, never wait for the writer. Postgres has one pool for both.
//!
//! Guarantees: a commit that returned is durable. One process at a time opens an embedded database. An applied migration
//! that was edited stops the start.

mod connect;
pub mod dialect;
mod error;
mod group;
mod migrate;
mod requests;
pub mod rows;
mod settings;
mod store;
mod time;
mod to_its_end;
mod transaction;

pub use connect::open;
pub use dialect::Dialect;
pub use error::{Error, OpenError};
pub use migrate::Migration;
pub use requests::{Once, REQUESTS, Request, hash};
pub use settings::Database;
pub use store::{BATCH, Store};
pub use time::{now, timestamp};
pub use transaction::{BeforeCommit, Transaction};

//! The database that a service owns: a SQLite file by default, or Postgres by URL, with the same SQL and migrations.
//!
//! Services write portable SQL: `$1` for parameters; TEXT, BIGINT, DOUBLE PRECISION and BYTEA for columns; booleans as
//! 0 and 1; times as microseconds since 1970. [`dialect`] holds the differences.
//!
//! SQLite has one writer: writes go through one connection and queue in this process, in order. Transactions that wait
//! become durable together (`group`). Reads have their own connections and, with the write-ahead log, never wait for
//! the writer. Postgres has one pool for both, which lends a connection for one transaction.
//!
//! Guarantees:
//! - A commit that returned `Ok` is durable.
//! - One process at a time opens an embedded database.
//! - An applied migration that was edited stops the start.
//! - A statement on Postgres ends with the deadline of its call.
//!
//! Does not: know feeds or operations, create a Postgres database, check SQL at build time.

mod completion;
mod condition;
mod connect;
mod connection;
mod connections;
pub mod dialect;
mod error;
mod file;
mod group;
mod holders;
mod list;
mod lock;
mod log;
mod migrate;
mod pool;
mod postgres;
mod probe;
mod reader;
mod readiness;
mod requests;
pub mod rows;
mod sequencer;
mod server;
mod settings;
mod settled;
mod sightings;
mod store;
mod time;
mod transaction;

pub use condition::Condition;
pub use connect::{open, open_within, with_missing};
pub use connection::Connection;
pub use dialect::Dialect;
pub use error::{Error, OpenError, Unavailable};
pub use list::in_list;
pub use log::{LOG, Published};
pub use migrate::Migration;
pub use reader::Reader;
pub use readiness::Degraded;
pub use requests::{Once, REQUESTS, Request, hash, request_hash};
pub use settings::{Database, Databases, Limits};
pub use store::{BATCH, Store};
pub use time::{now, timestamp};
pub use transaction::{BeforeCommit, Transaction};

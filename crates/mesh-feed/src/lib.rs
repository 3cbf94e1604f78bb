//! The changes in a service's database as a feed, and the streams that follow it.
//!
//! A feed has one row for each change of a subject, such as an operation, in the order of the commits of its caller.
//! Modules, in reading order: [`log`] holds the rows; [`notifier`] notifies listeners of new rows, by a `signal`;
//! [`stream`] is the loop of each stream; [`reader`] reads new rows once for all streams, and [`recent`] keeps them,
//! encoded; [`watchdog`] disconnects slow consumers; [`cursor`] is a position to resume at; [`epoch`] identifies a
//! database between two restores; [`retention`] deletes old rows; [`encoded`] serves what is encoded once.
//!
//! Guarantees:
//! - Positions and revisions are dense, so a stream recognises a missing row.
//! - A stream sends what it reads from the database. A notification carries nothing; a lost one costs 500 ms (INV-11).
//! - A slow client holds one page, and no connection to the database (INV-13).
//!
//! Does not: know what a subject is, or create its tables (`feed`, `feed_owner`, `store_meta`): the migrations of
//! mesh-operations do.

pub mod cursor;
pub mod encoded;
pub mod epoch;
pub mod log;
pub mod notifier;
pub mod reader;
pub mod recent;
pub mod retention;
mod signal;
pub mod stream;
pub mod watchdog;

//! What has happened in a service's database, in order, and the streams that follow it.
//!
//! A feed is one row for each change of a subject, such as an operation, in the order in which its caller's subjects
//! changed. [`log`] has the rows; a [`notifier`] wakes those that follow; a [`reader`] reads a feed once for all streams;
//! [`stream`] is what each stream does, and the [`watchdog`] disconnects slow consumers. [`cursor`] is a place to resume
//! at, [`epoch`] tells a database from what it was before a backup was restored, [`retention`] deletes old rows.
//!
//! Guarantees:
//! - Positions and revisions are dense: a hole is recognised.
//! - What a stream sends is read from the database. A notification carries nothing; a lost one costs half a second.
//! - A slow client holds one page, and no connection to the database.
//!
//! Does not: know what a subject is. Its tables (`feed`, `feed_owner`, `store_meta`) are created by the migrations of
//! mesh-operations.

pub mod cursor;
pub mod epoch;
pub mod log;
pub mod notifier;
pub mod reader;
pub mod retention;
pub mod stream;
pub mod watchdog;

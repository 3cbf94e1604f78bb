//! A process, whatever it serves: [`settings`] that are declared, checked together and printed; the [`command_line`]
//! that sets them; [`signals`] that end it; [`tasks`] that it waits for; and the [`backoff`] between attempts.
//!
//! Does not: open sockets, know a contract, write logs.

pub mod backoff;
pub mod command_line;
pub mod settings;
pub mod signals;
pub mod tasks;

pub use backoff::Backoff;
pub use tasks::Tasks;

//! The parts that each process needs: settings, command line, signals, tasks, backoff, build.
//!
//! Modules, in reading order: [`settings`] are declared, checked together and printed; the [`command_line`] sets them;
//! [`signals`] end a process; [`tasks`] are what it waits for; an [`alarm`](alarm()) bounds the wait; [`backoff`]
//! computes the pauses between attempts.
//!
//! [`raise_open_files`] raises the limit of open files. [`executable`] tells builds apart.
//!
//! Does not: open sockets, know a contract, write logs.

mod alarm;
pub mod backoff;
pub mod command_line;
pub mod executable;
mod open_files;
pub mod settings;
pub mod signals;
pub mod supervisor;
pub mod tasks;
mod usage;

pub use alarm::alarm;
pub use backoff::Backoff;
pub use open_files::raise_open_files;
pub use tasks::Tasks;
pub use usage::Usage;

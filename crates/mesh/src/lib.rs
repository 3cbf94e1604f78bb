//! The kit: what every service of the mesh needs and none of them writes.
//!
//! ```no_run
//! # fn main() -> std::process::ExitCode {
//! mesh::run([mesh::Service::new("catalog"), mesh::Service::new("artwork")])
//! # }
//! ```
//!
//! does everything around a service: configuration, telemetry, migrations, health, reflection, deadlines, draining.
//!
//! Rooms, in reading order: [`run`] is the life of a process; [`config`] what an operator decides; [`service`] what a
//! service is made of; [`serve`] how it is served, with the order of the layers in `serve::stack` and the deadline in
//! `serve::deadline`; [`channel`] how it calls a peer; [`context`] what travels with a call; [`store`] the database it
//! owns; [`health`] whether it is ready; [`contract`] what the contracts say of themselves; [`telemetry`] and [`error`]
//! what operators and clients are told; [`page`] how long lists are handed out.

mod body;
pub mod channel;
pub mod config;
pub mod context;
pub mod contract;
pub mod error;
mod health;
pub mod page;
mod run;
pub mod serve;
pub mod service;
pub mod store;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;

pub use channel::Channel;
pub use config::Config;
pub use error::Violations;
pub use run::run;
pub use service::{Process, Resources, Service};
pub use store::{Migration, Store, Transaction};

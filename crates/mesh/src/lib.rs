//! The kit: what every service of the mesh needs and none of them writes.
//!
//! ```no_run
//! # fn main() -> std::process::ExitCode {
//! mesh::run([mesh::Service::new("catalog", &[]), mesh::Service::new("artwork", &[])])
//! # }
//! ```
//!
//! does everything around a service: configuration, telemetry, migrations, health, reflection, deadlines, draining.
//!
//! Rooms, in reading order: [`run`] is the life of a process; [`config`] what an operator decides; [`service`] what a
//! service is made of; [`operations`] its long work; [`serve`] how it is served, with the order of the layers in `serve::stack` and the deadline in
//! `serve::deadline`; [`channel`] how it calls a peer; [`registry`] how they
//! find each other; [`context`] what travels with a call; [`store`] the database it
//! owns; [`health`] whether it is ready; [`contract`] what the contracts say of themselves; [`telemetry`] and [`error`]
//! what operators and clients are told; [`page`] how long lists are handed out. [`client`] is for callers outside.

#[cfg(feature = "client")]
pub mod client;

#[cfg(feature = "service")]
mod body;
#[cfg(feature = "service")]
pub mod channel;
#[cfg(feature = "service")]
pub mod config;
#[cfg(feature = "service")]
pub mod context;
#[cfg(feature = "service")]
pub mod contract;
#[cfg(feature = "service")]
pub mod error;
#[cfg(feature = "service")]
mod handler;
#[cfg(feature = "service")]
mod health;
#[cfg(feature = "service")]
pub mod operations;
#[cfg(feature = "service")]
pub mod page;
#[cfg(feature = "service")]
mod registry;
#[cfg(feature = "service")]
mod run;
#[cfg(feature = "service")]
pub mod serve;
#[cfg(feature = "service")]
pub mod service;
#[cfg(feature = "service")]
pub mod store;
#[cfg(feature = "service")]
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "service")]
pub use channel::Channel;
#[cfg(feature = "service")]
pub use config::Config;
#[cfg(feature = "service")]
pub use error::Violations;
#[cfg(feature = "service")]
pub use operations::Operations;
#[cfg(feature = "service")]
pub use run::run;
#[cfg(feature = "service")]
pub use service::{Process, Resources, Service};
#[cfg(feature = "service")]
pub use store::{Migration, Store, Transaction};

//! What a service sees of mesh.
//!
//! ```no_run
//! # mod contracts { pub const FILE_DESCRIPTOR_SET: &[u8] = &[]; }
//! # use contracts::FILE_DESCRIPTOR_SET;
//! # fn main() -> std::process::ExitCode {
//! mesh::run([mesh::Service::new("catalog", FILE_DESCRIPTOR_SET), mesh::Service::new("artwork", FILE_DESCRIPTOR_SET)])
//! # }
//! ```
//!
//! does everything around a service: configuration, telemetry, migrations, health, reflection, discovery, deadlines, load
//! shedding, draining.
//!
//! Modules, in reading order: [`service`] is what a service is made of, [`process`] the services of one process,
//! [`config`] what an operator decides, `run` the life of a process, `running` a process that serves, [`testing`] a real
//! mesh in a test. The rest are the crates below, under the names that a service uses: [`store`] its database,
//! [`operations`] its long work, [`client`] follows a peer's long work, [`error`] and [`page`] its answers, [`context`]
//! what travels with a call, [`contract`] the method table.

pub mod config;
pub mod process;
mod run;
mod running;
pub mod service;
#[cfg(feature = "testing")]
pub mod testing;

pub use mesh_client as client;
pub use mesh_operations as operations;
pub use mesh_rpc::call::{error, page};
pub use mesh_store as store;

pub use config::Config;
pub use mesh_operations::Operations;
pub use mesh_rpc::call::Violations;
pub use mesh_rpc::client::Channel;
pub use mesh_runtime::settings::Setting;
pub use mesh_store::{Migration, Store, Transaction};
pub use process::Process;
pub use run::run;
pub use running::{Running, start};
pub use service::{Resources, Service};

/// What travels with a call.
pub mod context {
    pub use mesh_rpc::call::{Caller, Context, Trace};
}

/// The method table: what the contracts say of each call.
pub mod contract {
    pub use mesh_rpc::call::{IdempotencyLevel, Method, Methods};
}

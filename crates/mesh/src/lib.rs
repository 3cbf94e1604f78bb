//! The API that a service sees.
//!
//! ```no_run
//! # mod contracts { pub const FILE_DESCRIPTOR_SET: &[u8] = &[]; }
//! # use contracts::FILE_DESCRIPTOR_SET;
//! # fn main() -> std::process::ExitCode {
//! mesh::run([mesh::Service::new("catalog", FILE_DESCRIPTOR_SET), mesh::Service::new("artwork", FILE_DESCRIPTOR_SET)])
//! # }
//! ```
//!
//! A process gets configuration, telemetry, migrations, health, reflection, discovery, deadlines, load shedding and
//! drain.
//!
//! Modules, in reading order: [`service`] declares a service, `calls` what it calls, `follows` what it follows,
//! `resources` is what it gets in return, [`process`] is the services of one process, [`config`] its configuration,
//! `common` what its parts share, `release` what it says of its builds, `inspect` what it says of itself, `dashboard` its page of the whole mesh, with
//! the `schema` of mesh, `gate` whether its builds fit what runs, `run` the life of a process, `running` a process that
//! serves, `places` how far its events and copies are, `testing` a real mesh in a test. The rest re-exports the crates
//! below, under the names that a service uses: [`store`] is its database, [`operations`] its long work, [`saga`] work
//! with a way back, [`compose`] an answer from those of peers, [`events`] what it publishes and follows, [`client`]
//! follows the long work of a peer, [`error`] and [`page`] build answers, [`peer`] passes on failures of peers,
//! [`context`] is the context of a call, [`contract`] the method table.
//!
//! Guarantees:
//! - A service behaves the same alone and beside others (INV-3).
//! - Only a checked configuration reaches a service (INV-4).
//!
//! Does not: implement calls, storage or operations, or know the contracts of a system.

mod announce;
mod calls;
mod common;
pub mod compose;
pub mod config;
mod dashboard;
mod follows;
mod gate;
mod inspect;
mod places;
pub mod process;
mod release;
mod resources;
mod run;
mod running;
mod schema;
pub mod service;
#[cfg(feature = "testing")]
pub mod testing;

/// The allocator of every process that has mesh in it.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub use mesh_client as client;
pub use mesh_rpc::call::{error, page};

pub use calls::Callee;
pub use config::Config;
pub use mesh_operations::Operations;
pub use mesh_rpc::call::{Text, Violations};
pub use mesh_rpc::client::Channel;
pub use mesh_runtime::settings::Setting;
pub use mesh_store::{Error, Migration, Store, Transaction};
pub use process::{Gateway, Process};
pub use resources::Resources;
pub use run::run;
pub use running::{Running, start};
pub use service::Service;

/// Failures of peers.
pub mod peer {
    pub use mesh_rpc::call::peer::{pass_on, reason};
}

/// The database of a service.
pub mod store {
    pub use mesh_store::{
        Connection, Error, Migration, Once, Reader, Request, Store, Transaction, in_list, now, timestamp,
    };
}

/// Events: what a service publishes when it changes its data, and following those of another service.
pub mod events {
    pub use mesh_events::Publish;
    pub use mesh_follow::{Applying, Copied, Follow};
    pub use mesh_proto::{Event, Events};
}

/// Long work.
pub mod operations {
    pub use mesh_operations::{Attempt, Ended, Operations, Start, Step, Work};
}

/// Long work with a way back.
pub mod saga {
    pub use mesh_operations::saga::{Forward, LocalStep, LocalUndo, Saga, Step, Undo};
}

/// What travels with a call. `Context::caller()` says who makes it: docs/guide/callers.md.
pub mod context {
    pub use mesh_rpc::call::{Caller, Cause, Context, Trace, User};
}

/// The method table: what the contracts say of each call.
pub mod contract {
    pub use mesh_rpc::call::{Access, IdempotencyLevel, Method, Methods};
}

//! gRPC calls: making them, serving them, observing them and finding peers.
//!
//! Modules, in order of dependency. A module uses only those before it; `server` does not use `client`.
//! - [`call`]: a call, its context, its errors and its handlers
//! - `reread`: files that are replaced while the process runs
//! - [`telemetry`]: logs, metrics and spans of calls
//! - [`identity`]: certificates of services, and TLS between processes
//! - [`auth`]: who calls, and whether it may
//! - [`client`]: the channel to a peer
//! - [`discovery`]: finds peers and registers this process
//! - [`server`]: accepts connections and answers calls
//! - [`inspect`]: what the process does right now, for a dashboard

pub mod auth;
pub mod call;
pub mod client;
pub mod discovery;
pub mod identity;
pub mod inspect;
mod reread;
pub mod server;
pub mod telemetry;

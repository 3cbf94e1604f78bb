//! gRPC calls: making them, serving them, observing them and finding peers.
//!
//! Modules, in order of dependency. A module uses only those before it; `server` uses `call` and `telemetry` alone.
//! - [`call`]: a call, its context, its errors and its handlers
//! - [`identity`]: certificates of services, and TLS between processes
//! - [`telemetry`]: logs, metrics and spans of calls
//! - [`client`]: the channel to a peer
//! - [`discovery`]: finds peers and registers this process
//! - [`server`]: accepts connections and answers calls

pub mod call;
pub mod client;
pub mod discovery;
pub mod identity;
pub mod server;
pub mod telemetry;

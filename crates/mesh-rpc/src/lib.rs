//! A call and how it travels.
//!
//! Modules, each standing on those before it: [`call`] is a call and what travels with it; [`telemetry`] logs, counts and
//! traces it; [`client`] makes calls to a peer; [`discovery`] finds peers, and lets peers find this process; [`server`]
//! answers calls.

pub mod call;
pub mod client;
pub mod discovery;
pub mod server;
pub mod telemetry;

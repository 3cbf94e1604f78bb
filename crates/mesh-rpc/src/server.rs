//! From a socket to a handler, and back.
//!
//! [`Ports`] accepts connections, `connection` bounds the life of each; [`layers`] has the layers around every service and
//! their order: `deadline` enforces deadlines, `drain` ends streams, `body_limit` bounds the bytes of requests in flight,
//! `shed` the calls in flight, `details` gives each failure a reason, `panics` catches panics. [`Health`] reports
//! readiness, [`reflection`] serves the contracts, [`Admin`] the pages for operators.

mod admin;
mod body_limit;
mod connection;
mod deadline;
mod details;
mod drain;
mod health;
pub mod layers;
mod listener;
mod panics;
mod ports;
pub mod reflection;
mod settings;
mod shed;

pub use admin::Admin;
pub use connection::Connection;
pub use health::{Check, Health, Watched};
pub use ports::Ports;
pub use settings::Limits;

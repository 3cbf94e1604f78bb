//! The server: accepts connections, and answers calls through the layers.
//!
//! - [`Ports`] binds the listeners. `connection` serves one connection, which may begin with the handshake of [`Tls`];
//!   `start` reads its first bytes.
//! - [`layers`] has the layers around every service, in order: `status_size`, `access`, `deadline`, `drain`,
//!   `consistency`, `body_limit`, `compression`, `shed`, `details`, `panics`. They share the request body of `request`,
//!   whose parts are `arrival`, with `one_message`, and `permit`, and the response body of `answer`. `permits` has the
//!   concurrency permits.
//! - `form` refuses ambiguous heads, and `media_type` what is no call although its path is that of a method.
//! - [`Loopback`] is a listener without TLS, for the app beside a sidecar and for a dashboard.
//! - [`Starting`] answers until the services are built.
//! - [`Health`] is the readiness, with [`process_checks`] and those of databases; [`health_service`] serves it, [`reflection`] serves the contracts, [`Admin`] the
//!   admin pages.

mod access;
mod admin;
mod answer;
mod arrival;
mod body_limit;
mod compression;
mod connection;
mod consistency;
mod deadline;
mod descriptors;
mod details;
mod drain;
mod form;
mod handshakes;
mod head_limit;
mod health;
pub mod health_service;
pub mod layers;
mod listener;
mod loopback;
mod media_type;
mod one_message;
mod panics;
mod permit;
mod permits;
mod ports;
mod prefixed;
mod process_checks;
pub mod reflection;
mod request;
mod settings;
mod shed;
mod start;
mod starting;
mod status_size;
mod tls;

pub use admin::Admin;
pub use consistency::{KnownPlaces, Pending, Places};
pub use head_limit::check as check_head;
pub use health::{Check, Health, Readiness};
pub use loopback::Loopback;
pub use media_type::is_grpc;
pub use ports::{Answers, Edge, Front, Guard, Listen, Page, Ports, Takes};
pub use process_checks::process_checks;
pub use settings::{Drain, Limits};
pub use starting::Starting;
pub use tls::Tls;

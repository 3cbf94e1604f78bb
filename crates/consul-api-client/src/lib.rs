#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! [`Client`] is the entry point. [`agent`] registers services and their checks, [`health`] finds instances,
//! [`blocking`] waits for changes. [`catalog`], [`status`], [`kv`], [`session`] and [`intentions`] cover the remaining
//! endpoints.
//! [`error`] classifies failures.
//!
//! # Guarantees
//!
//! - Requests carry only fields that Consul 1.8 accepts, because Consul rejects an unknown JSON field with 400.
//!   Responses may carry additional fields.
//! - Every request has a time limit, because a suspended agent accepts connections and never answers. The limit of a
//!   blocking query is its wait, plus the sixteenth that the agent may add, plus [`Builder::timeout`].
//! - The body of a response has at most 64 MiB: a larger one is an error.
//! - A dropped future closes its connection and leaves the client usable. Consul may still execute the request.
//!
//! # Does not
//!
//! - Retry, cache or poll: the caller decides. [`Error::is_transient`] says whether a retry can succeed.
//! - Cancel a blocking query on the agent. A dropped query occupies one of the 200 connections that an agent allows per
//!   client address until its wait ends, so keep one watch per service running.
//!
//! # See
//!
//! - [Consul's HTTP API](https://developer.hashicorp.com/consul/api-docs)

mod address;
pub mod agent;
pub mod blocking;
mod builder;
pub mod catalog;
mod check;
mod client;
pub mod error;
pub mod health;
pub mod intentions;
pub mod kv;
mod registration;
pub mod session;
pub mod status;
#[cfg(feature = "tls")]
mod tls;
mod transport;
mod weights;
mod wire;

pub use address::host_port;
pub use blocking::{Blocking, Indexed};
pub use builder::Builder;
pub use check::Check;
pub use client::Client;
pub use error::Error;
pub use registration::Registration;
pub use weights::Weights;

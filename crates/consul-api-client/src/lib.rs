#![doc = include_str!("../README.md")]
//!
//! # Design
//!
//! Rooms, in reading order: [`Client`] is the entrance; [`agent`] what a service does with its own agent, with the
//! [`Registration`] that it sends there; [`health`] how it finds others; [`blocking`] how it waits for a change, which
//! is where most clients of Consul go wrong; [`catalog`], [`status`], [`kv`] and [`session`] the rest; [`error`] what
//! may fail, and which failures pass by themselves.
//!
//! **Only what is known is sent.** Consul answers an unknown JSON field with 400 and registers nothing, so a client
//! that knows more than the agent cannot register at all. What this crate sends is understood by Consul 1.8; what it
//! receives may have any number of fields more.
//!
//! **One request, one answer.** Nothing is retried, cached or kept in step in the background: how often to try, and
//! what to serve meanwhile, is a decision of the mesh. [`Error::is_transient`] says what is worth trying again.
//!
//! **Every request ends.** An agent that is stopped, or swapped out, accepts connections and never answers; nothing but
//! a limit notices. A blocking query's limit is its wait, plus what the agent may add to it, plus that of any request.
//!
//! **Dropping a future is safe.** The connection it used is closed, not returned. What it asked for may be done all
//! the same, and a blocking query keeps one of the 200 connections that an agent allows an address until its wait ends:
//! let watches run.

mod address;
pub mod agent;
pub mod blocking;
mod builder;
pub mod catalog;
mod check;
mod client;
pub mod error;
pub mod health;
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

//! Against real agents, each with ports of its own. Without Consul these tests say that they were skipped.

#![allow(clippy::unwrap_used, reason = "what a test cannot do without")]

mod discovery;
mod failures;
mod harness;
mod keys;
mod registering;
#[cfg(feature = "tls")]
mod tls;

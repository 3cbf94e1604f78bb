//! Tests against real agents, each on ports of its own. Without Consul installed, the tests are skipped with a message.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod discovery;
mod failures;
mod harness;
mod intentions;
mod keys;
mod registering;
#[cfg(feature = "tls")]
mod tls;

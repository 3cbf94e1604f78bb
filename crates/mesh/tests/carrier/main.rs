//! The guarantees of the carrier, with a real NATS server: `cargo test -p mesh --features nats --test
//! carrier -- --include-ignored`.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod away; // a broker that is away, killed, or stands still
mod fixture; // a mesh that publishes to a server, and what the server has
mod histories; // logs that do not continue what the broker has
mod lost; // a broker that has lost what it acknowledged
mod messages; // an event as a CloudEvent
#[path = "../things/mod.rs"]
mod things; // what the mesh publishes
mod two; // two relays of one log

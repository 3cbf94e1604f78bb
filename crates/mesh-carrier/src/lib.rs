//! The carrier: publishes the events of a service to a broker, for programs that read from one.
//!
//! Modules, in reading order: [`relay`] passes the events on; it takes its `lease`, finds its `place` by the last
//! message of the broker, and `seen` is for its metrics. [`carrier`] is what it asks of a broker, two methods, and
//! [`message`] an event as a CloudEvent. [`nats`] is the carrier for NATS JetStream, and [`settings`] its key.
//!
//! Guarantees:
//! - The broker gets each event once, in the order of the log, also with two relays at once. The place of the relay is
//!   in the broker: what a broker has lost is sent again.
//! - A broker that is away or slow fails no call and leaves the service ready.
//!
//! Does not: read from the broker for a service, or make the broker keep what it acknowledges.
//!
//! See: docs/decisions/0040-nats-carries-events.md

pub mod carrier;
mod lease;
pub mod message;
#[cfg(feature = "nats")]
pub mod nats;
mod place;
pub mod relay;
mod seen;
#[cfg(feature = "nats")]
pub mod settings;

/// The client, for tests that read what a relay has published.
#[cfg(feature = "nats")]
pub use async_nats;
pub use carrier::{Carrier, Failure};
pub use lease::RELAY;
pub use message::{Last, Message};
#[cfg(feature = "nats")]
pub use nats::Nats;
pub use relay::Relay;
#[cfg(feature = "nats")]
pub use settings::Servers;

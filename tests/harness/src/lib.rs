//! Starts, calls and stops the real processes that tests drive.
//!
//! - No test uses a fixed port, and none sleeps until a process is ready. A process prints the address it listens on;
//!   every other condition is polled until it holds or [`LIMIT`] is reached.
//! - [`command`] and [`Process`] build the programs of the default members once for each test program.
//! - A test whose tool is missing prints a note and passes; with `CI=true` it fails. A test that needs a program of
//!   `.ci/foreign` fails with `CI=foreign` only.

mod authority; // certificates of services, and clients that show them
mod balancer; // a balancer that probes health
mod certificate; // a certificate, and a client that trusts it
mod collector; // a server that keeps every request: a collector of spans
mod consul; // an agent of Consul
mod conventions; // OpenTelemetry's conventions for spans
mod curl; // HTTP requests by curl
mod envoy; // Envoy as a balancer
pub mod film; // the titles and pictures of the example
mod grpcurl; // calls by grpcurl
mod nats; // a NATS server
mod pgbouncer; // a pooler before Postgres
mod postgres; // a Postgres server
mod process; // one process of the system
mod programs; // finding installed programs, and waiting for them
mod project; // the folder of the project
mod proxy; // a network that can fail
mod python; // programs in Python
mod raw; // gRPC calls by hand
mod secured; // a mesh with mutual TLS and tokens
mod session; // SQL on one connection
mod sql; // one SQL statement
mod up; // `mesh up`

pub use authority::{Authority, Leaf, Seen, TlsClient};
pub use balancer::Balancer;
pub use certificate::{Certificate, TlsConnection};
pub use collector::{Collector, Exported};
pub use consul::Consul;
pub use conventions::unconventional;
pub use curl::{Curl, Page};
pub use envoy::Envoy;
pub use grpcurl::{Answer, Grpcurl};
pub use nats::{Nats, free_address};
pub use pgbouncer::PgBouncer;
pub use postgres::Postgres;
pub use process::{Process, command, forget_cargo, output, output_in};
pub use programs::{LIMIT, eventually, eventually_within, find_program, skip, skip_foreign};
pub use project::{root, uuid};
pub use proxy::Proxy;
pub use python::{app, python, python_with};
pub use raw::{Ended, RawCall, RawConnection, Reply};
pub use secured::{Secured, token};
pub use session::Session;
pub use sql::execute;
pub use up::Up;

//! Black-box tests of the whole: real binaries, real grpcurl. What each file holds:

mod architecture; // the invariants of docs/ARCHITECTURE.md that can be read off the tree
mod bad_start; // what an operator reads when a process cannot start
mod docs; // what the documents say is true
mod doctor; // what `mesh doctor` says of a machine
mod drain; // how a process ends
#[allow(dead_code, unused_imports, reason = "services to come want a Consul, a Postgres and a proxy, too")]
mod harness; // how all of them start and stop what they test
mod serving; // reflection, health, pages for operators, deadlines
mod templates; // what new services are made of

//! Black-box tests of the whole: real binaries, real grpcurl, a real Postgres, a real Consul. What each file holds:

mod abuse; // clients that take more than they give, and too many of them
mod architecture; // the invariants of docs/ARCHITECTURE.md that can be read off the tree
mod artwork; // long work, from outside
mod bad_input; // what a request that cannot be served gets
mod bad_start; // what an operator reads when a process cannot start
mod calls; // what holds when a peer dies, is replaced, stands still or fails
mod catalog; // the catalog's promises, on SQLite and on Postgres
mod consul; // being found, and finding others, through Consul
mod database; // what becomes of a process with what it owns
mod docs; // what the documents say is true
mod doctor; // what `mesh doctor` says of a machine
mod drain; // how a process ends
mod faults; // what holds when something dies, stands still or goes away
mod harness; // how all of them start and stop what they test
mod operations_cli; // what `mesh` says to people
mod restore; // what an operator does after a backup was restored
mod serving; // reflection, health, pages for operators, deadlines
mod templates; // what new services are made of
mod topologies; // the same behaviour, wherever the services run
mod tracing; // one trace through every hop, and what a collector sees of it
mod up; // every service in a process of its own, by one command

//! What mesh promises, seen from outside: real binaries, real grpcurl. What each file holds:

mod bad_start; // what an operator reads when a process cannot start
mod doctor; // what `mesh doctor` says of a machine
mod drain; // how a process ends
mod serving; // reflection, health, pages for operators, deadlines
mod structure; // the ladder of crates, and that no files form a circle
mod templates; // what new services are made of

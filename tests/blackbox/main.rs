//! What the system promises to its callers: real binaries, called from outside. What each file holds:

mod architecture; // the invariants of docs/ARCHITECTURE.md that can be read off the tree
mod artwork; // long work, from outside
mod bad_input; // what a request that cannot be served gets
mod catalog; // the catalog's promises, on SQLite and on Postgres
mod docs; // what the documents say is true
mod topologies; // the same behaviour, wherever the services run

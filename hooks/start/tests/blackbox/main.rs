//! What the system promises to its callers, tested with real binaries from outside. Each file's subject:

mod architecture; // the invariants of docs/ARCHITECTURE.md that the tree shows
mod artwork; // long-running operations, from outside
mod bad_input; // the answers to invalid requests
mod catalog; // the catalog's contract, on SQLite and on Postgres
mod contracts_table; // docs/CONTRACTS.md agrees with the contracts
mod docs; // the documents agree with the code
mod edge; // JSON over HTTP, by curl
mod events; // what the catalog publishes, by grpcurl
mod manifest; // what programs say of themselves, and what they call
mod seeds; // development data
mod topologies; // the same behaviour in every topology

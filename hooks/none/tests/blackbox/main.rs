//! What the system promises to its callers, tested with real binaries from outside. Each file's subject:

mod architecture; // the invariants of docs/ARCHITECTURE.md that the tree shows
mod contracts_table; // docs/CONTRACTS.md agrees with the contracts
mod docs; // the documents agree with the code
mod manifest; // what programs say of themselves, and what they call
mod seeds; // development data

//! What the system promises to its callers: real binaries, called from outside. What each file holds:

mod architecture; // the invariants of docs/ARCHITECTURE.md that can be read off the tree
mod docs; // what the documents say is true

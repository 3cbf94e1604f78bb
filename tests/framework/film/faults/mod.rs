//! What must hold of long work when something dies, stands still or goes away in the middle of it.
//!
//! Each test does one such thing on purpose to real processes, and then asks two witnesses, neither of which is the
//! program's own word: what clients wrote down at the moment when they saw it ([`recorder`]), and what is in the
//! database afterwards ([`evidence`]). They agree if
//!
//! - whatever was acknowledged is there, and a request that was repeated is one operation;
//! - an operation is there with its input and its history, or not at all;
//! - its revisions have no hole, and it ends once;
//! - whoever follows it sees that history in order, resumed wherever a stream broke, and nothing that is not in it;
//! - what it does is done once, in a log that only grows.
//!
//! When something dies is decided by what the recorder has seen and by a seed, never by how fast the machine is. Where a
//! window is too small to be hit, the test holds a lock in the database and so keeps it open.
//!
//! Tested elsewhere: a worker killed in the middle of a picture, and a watcher who is cut off every 50 ms, in
//! `tests/blackbox/artwork.rs`; a watcher who never reads, and retention that passes a cursor, inside mesh
//! (`crates/mesh/tests/operations`).

/// Makes two tests of a function that takes a [`System`](system::System): of one process on SQLite, and of so many
/// replicas on Postgres.
macro_rules! on_both {
    ($name:ident, $replicas:literal) => {
        mod $name {
            use crate::film::faults::system::System;

            #[test]
            fn sqlite() {
                super::$name(System::sqlite());
            }

            #[test]
            #[ignore = "needs Postgres: .ci/full"]
            fn postgres() {
                if let Some(system) = System::postgres($replicas) {
                    super::$name(system);
                }
            }
        }
    };
}

mod caller; // a client that does not give up
mod database; // the database goes away
mod durable; // an acknowledgement means that it is on the disk
mod evidence; // what the database says
mod hangup; // the client goes away
mod killed; // the process dies before, in and after a commit
mod races; // short work that ends while somebody asks for it, or cancels it
mod random; // all of it at once, at random
mod recorder; // what clients have seen
mod replicas; // one of two stands still, or is replaced
mod system; // the processes that a fault happens to

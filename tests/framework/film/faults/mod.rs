//! Long work while something dies, stalls or goes away.
//!
//! Each test causes one fault in real processes, and then compares two records that do not come from the program: what
//! clients recorded as they received it ([`recorder`]), and the contents of the database afterwards ([`evidence`]).
//! They agree if
//!
//! - every acknowledged start exists, and a repeated request is one operation;
//! - an operation exists with its input and its history, or not at all;
//! - its revisions have no gap, and it ends once;
//! - a follower sees that history in order, also across broken streams, and nothing else;
//! - each effect happens once, in a log that only grows.
//!
//! The recorder's progress and a seed decide when a fault happens, never the speed of the machine. Where the window is
//! too small to hit, the test holds a lock in the database to keep it open.
//!
//! Tested elsewhere: a worker killed in the middle of a picture, and a watcher whose connection is cut every 50 ms, in
//! `tests/blackbox/artwork.rs`; a watcher that never reads, and retention that passes a cursor, in
//! `crates/mesh/tests/operations`.

/// Makes two tests of a function that takes a [`System`](system::System): one process on SQLite, and the given number
/// of replicas on Postgres.
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

mod caller; // a client that retries
mod database; // the database goes away
mod durable; // acknowledged starts are on the disk
mod evidence; // the contents of the database
mod hangup; // the client disconnects
mod killed; // the process is killed before, in and after a commit
mod pooler; // a pooler lends the sessions of the database
mod races; // short work that ends while it is watched or cancelled
mod random; // random kills under mixed load
mod recorder; // the records of clients
mod replicas; // one of two replicas stalls or is replaced
mod system; // the processes under test

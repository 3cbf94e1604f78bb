//! The guarantees of following, on real meshes with real databases: a source in one process, and its follower in
//! another.
//!
//! Each test runs on SQLite and on Postgres. The half on Postgres is ignored: `cargo test -p mesh -- --include-ignored`
//! runs it as well.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

/// Makes two tests of a function that takes [`Databases`](fixture::Databases).
macro_rules! on_both {
    ($name:ident) => {
        mod $name {
            #[tokio::test]
            async fn sqlite() {
                crate::fixture::within_limit(super::$name(crate::fixture::Databases::Sqlite)).await;
            }

            #[tokio::test]
            #[ignore = "needs Postgres: .ci/full"]
            async fn postgres() {
                if let Some(databases) = crate::fixture::Databases::postgres().await {
                    crate::fixture::within_limit(super::$name(databases)).await;
                }
            }
        }
    };
}

mod abort; // an event that ends a real process
mod api; // what operators see and repair
mod cascade; // services that answer each other's events
mod commands; // `mesh events`, for operators
mod declare; // what a process refuses to start with
mod desk; // the calls that both services answer
mod fixture; // a source, a follower, and the network between them
mod once; // each event takes effect once
mod own_writes; // callers find their own writes in a copy
mod poison; // events that cannot be applied
mod rebuild; // another history, and what a copy serves meanwhile
mod replicas; // one lease for all processes with one database
#[path = "../things/mod.rs"]
mod things; // what the source publishes

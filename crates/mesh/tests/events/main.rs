//! The guarantees of events, on a real mesh with a real database.
//!
//! Each test runs on SQLite and on Postgres. The half on Postgres is ignored: `cargo test -p mesh -- --include-ignored`
//! runs it as well.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

/// Makes two tests of a function that takes a [`Fixture`](fixture::Fixture).
macro_rules! on_both {
    ($name:ident) => {
        mod $name {
            #[tokio::test]
            async fn sqlite() {
                crate::fixture::within_limit(super::$name(crate::fixture::Fixture::sqlite().await)).await;
            }

            #[tokio::test]
            #[ignore = "needs Postgres: .ci/full"]
            async fn postgres() {
                if let Some(fixture) = crate::fixture::Fixture::postgres().await {
                    crate::fixture::within_limit(super::$name(fixture)).await;
                }
            }
        }
    };
}

mod cause; // from a call through its work to its events
mod fixture; // a mesh that publishes, and a reader with a copy
mod history; // cursors that are not of this history
mod list; // sources, and events of one first cause
mod requests; // what a request may ask for
mod subscribe;
#[path = "../things/mod.rs"]
mod things; // what the mesh publishes // snapshot, events, resumption

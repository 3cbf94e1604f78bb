//! The guarantees of long work, on a real mesh with a real database.
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

mod bounds; // of the contracts
mod clean_up; // after an end without success
mod client; // the helpers for callers
mod clock; // a wall clock that went back
mod fixture; // a mesh that does long work, and a client
mod housekeeping; // work that the service starts itself
mod lifecycle; // start, attempts, progress, end
mod list; // filters and pages
mod rent; // a saga and its effects
mod retention; // deletion of old operations and events
mod retry; // retries of failed operations
mod saga; // work with a way back
mod subscribe; // all operations of a caller
mod transaction; // statements that fail
mod watch; // one operation
mod workers; // drains, lost leases, dead workers

//! What the kit promises about long work, on a real mesh with a real database: on SQLite and on Postgres, each test
//! written once. The half on Postgres is ignored: `cargo test -p mesh -- --include-ignored` runs it, too.

#![expect(clippy::unwrap_used, reason = "a test has nothing better to do")]

/// Makes two tests of a function that takes a [`Bench`](bench::Bench).
macro_rules! on_both {
    ($name:ident) => {
        mod $name {
            #[tokio::test]
            async fn sqlite() {
                crate::bench::within_limit(super::$name(crate::bench::Bench::sqlite().await)).await;
            }

            #[tokio::test]
            #[ignore = "needs Postgres: .ci/full"]
            async fn postgres() {
                if let Some(bench) = crate::bench::Bench::postgres().await {
                    crate::bench::within_limit(super::$name(bench)).await;
                }
            }
        }
    };
}

mod bench; // what every test begins with
mod client; // what the helpers for callers hide
mod lifecycle; // how an operation begins, goes on and ends
mod list; // by what they are, a page at a time
mod retention; // what is forgotten, and what is told of it
mod retry; // beginning once more what has failed
mod subscribe; // following all operations
mod watch; // following one operation
mod workers; // what becomes of an operation when who works on it goes away

// How the tests of the whole start a Postgres, and cut a network.
#[path = "../../../../tests/harness/src/postgres.rs"]
#[expect(dead_code, unreachable_pub, reason = "no test here stops it; a crate has these files, too")]
mod postgres;
#[path = "../../../../tests/harness/src/programs.rs"]
#[expect(unreachable_pub, reason = "a crate has this file, too")]
mod programs;
#[path = "../../../../tests/harness/src/proxy.rs"]
#[expect(dead_code, unreachable_pub, reason = "no test here heals it; a crate has this file, too")]
mod proxy;
#[path = "../../../../tests/harness/src/sql.rs"]
#[expect(unreachable_pub, reason = "a crate has this file, too")]
mod sql;

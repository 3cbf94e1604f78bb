//! Measures what it costs to know who calls: mutual TLS beside none, tokens and passports, and handshakes beside bare
//! rustls.
//!
//! `cargo run --profile bench-run -p bench -- auth` prints one table; docs/BENCHMARKS.md explains it.
//!
//! Modules: [`mutual`] measures calls with TLS and without, [`checks`] the check of a caller, [`handshakes`] new
//! connections. [`site`] has the certificates, and the servers in processes of their own.

mod checks;
mod handshakes;
mod mutual;
mod plan;
pub(crate) mod site;

use anyhow::Context as _;

use crate::machine::processor;
use crate::report::Report;
use plan::{FULL, QUICK};
use site::Site;

/// A part of the table, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    Mutual,
    Checks,
    Handshakes,
}

pub(crate) async fn measure(quick: bool, only: Option<Part>) -> anyhow::Result<()> {
    let plan = if quick { QUICK } else { FULL };
    // As in every process: a span costs nothing without a subscriber, and here there is one.
    mesh::testing::log();
    let (site, mut report) = (Site::new()?, Report::default());
    for part in [Part::Mutual, Part::Checks, Part::Handshakes] {
        if only.is_some_and(|only| only != part) {
            continue;
        }
        let measured = match part {
            Part::Mutual => mutual::measure(&site, &plan, &mut report).await,
            Part::Checks => checks::measure(&site, &plan, &mut report).await,
            Part::Handshakes => handshakes::measure(&site, &plan, &mut report).await,
        };
        measured.with_context(|| format!("{part:?}"))?;
    }
    println!("{}.\n\n{report}", processor());
    Ok(())
}

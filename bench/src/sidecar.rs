//! Measures the sidecar beside Envoy: each in front of the same service, in the same rounds, with as many threads and
//! connections. Neither writes an access log.
//!
//! `cargo run --profile bench-run -p bench -- sidecar` prints one table; docs/BENCHMARKS.md explains it.
//!
//! Modules, in the order of the table: [`calls`] has calls a second and CPU time, of one hop in plaintext and of a pair
//! with mutual TLS between; [`memory`] many connections, and waves of them. [`ways`] starts the programs, [`envoys`]
//! has the configurations of Envoy.

pub(crate) mod bare;
mod calls;
mod envoys;
mod memory;
mod plan;
mod ways;

use anyhow::Context as _;

use crate::machine::processor;
use crate::report::Report;
use plan::{FULL, QUICK};

/// A part of the table, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// One hop, in plaintext.
    Hop,
    /// A pair, with mutual TLS between.
    Pair,
    /// Connections, and waves of them.
    Memory,
}

pub(crate) async fn measure(quick: bool, only: Option<Part>) -> anyhow::Result<()> {
    let plan = if quick { QUICK } else { FULL };
    let mut report = Report::default();
    for part in [Part::Hop, Part::Pair, Part::Memory] {
        if only.is_some_and(|only| only != part) {
            continue;
        }
        let measured = match part {
            Part::Hop => calls::hop(&plan, &mut report).await,
            Part::Pair => calls::pair(&plan, &mut report).await,
            Part::Memory => memory::measure(&plan, &mut report).await,
        };
        measured.with_context(|| format!("{part:?}"))?;
    }
    println!("{}.\n\n{report}", processor());
    Ok(())
}

//! How fast calls between services are: the kit beside bare tonic, and what each of the kit's layers costs.
//!
//! `cargo run --profile bench-run -p bench -- calls` prints one table; docs/BENCHMARKS.md says how to read it. What is
//! called answers at once with a message that is always the same, so what is measured is everything around it.
//!
//! Rooms: [`loopback`] is the kit and tonic over the network; [`memory`] a peer in the same process; [`layers`] each
//! layer for itself, of what [`partial`] puts together; [`peer`] the service that is called, and the servers of both sides in processes of their own.

mod layers;
mod loopback;
mod memory;
mod partial;
pub(crate) mod peer;
mod plan;

use anyhow::Context as _;

use crate::report::Report;
use plan::{FULL, QUICK};

/// A part of the table, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    Loopback,
    Memory,
    Layers,
}

pub(crate) async fn measure(quick: bool, only: Option<Part>) -> anyhow::Result<()> {
    let plan = if quick { QUICK } else { FULL };
    // As every process does: a span that nobody looks at costs nothing, and here somebody does.
    mesh::testing::log();
    let mut report = Report::default();
    for part in [Part::Loopback, Part::Memory, Part::Layers] {
        if only.is_some_and(|only| only != part) {
            continue;
        }
        let measured = match part {
            Part::Loopback => loopback::measure(&plan, &mut report).await,
            Part::Memory => memory::measure(&plan, &mut report).await,
            Part::Layers => layers::measure(&plan, &mut report).await,
        };
        measured.with_context(|| format!("{part:?}"))?;
    }
    println!("{report}");
    Ok(())
}

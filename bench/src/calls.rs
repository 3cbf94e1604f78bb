//! Measures calls between services: mesh beside bare tonic, and the cost of each of mesh's layers.
//!
//! `cargo run --profile bench-run -p bench -- calls` prints one table; docs/BENCHMARKS.md explains it. The handler
//! returns a constant message, so the measurement is of everything around it.
//!
//! Modules: [`loopback`] measures mesh and tonic over the network; [`memory`] a peer in the same process; [`layers`]
//! each layer alone, with the stacks that [`partial`] builds; [`recording`] what counting calls and watching the
//! counters costs. [`peer`] is the service, and the servers of both sides in processes of their own.

mod layers;
pub(crate) mod loopback;
mod memory;
pub(crate) mod partial;
pub(crate) mod peer;
mod plan;
mod recording;

use anyhow::Context as _;

use crate::machine::processor;
use crate::report::Report;
use plan::{FULL, QUICK};

/// A part of the table, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    Loopback,
    Memory,
    Layers,
    Recording,
}

pub(crate) async fn measure(quick: bool, only: Option<Part>) -> anyhow::Result<()> {
    let plan = if quick { QUICK } else { FULL };
    // As in every process: a span costs nothing without a subscriber, and here there is one.
    mesh::testing::log();
    let mut report = Report::default();
    for part in [Part::Loopback, Part::Memory, Part::Layers, Part::Recording] {
        if only.is_some_and(|only| only != part) {
            continue;
        }
        let measured = match part {
            Part::Loopback => loopback::measure(&plan, &mut report).await,
            Part::Memory => memory::measure(&plan, &mut report).await,
            Part::Layers => layers::measure(&plan, &mut report).await,
            Part::Recording => recording::measure(&plan, &mut report).await,
        };
        measured.with_context(|| format!("{part:?}"))?;
    }
    println!("{}.\n\n{report}", processor());
    Ok(())
}

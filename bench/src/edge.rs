//! Measures the edge: HTTP and JSON in front of gRPC, beside Envoy's transcoder and beside gRPC itself.
//!
//! `cargo run --profile bench-run -p bench -- edge` prints one table; docs/BENCHMARKS.md explains it. The service is
//! that of [`calls`](crate::calls), which returns constant messages, and that of the operations for what follows them.
//!
//! Modules, in the order of the table: [`transcoding`] measures JSON alone; [`gateway`] a process in front of the
//! service, and [`envoy`] is the other one; [`own`] the edge in the process of the service; [`sources`] pages that
//! follow operations. [`load`] makes the requests.

mod envoy;
pub(crate) mod gateway;
pub(crate) mod load;
mod own;
mod plan;
mod sources;
mod transcoding;

use std::path::PathBuf;

use anyhow::Context as _;

use crate::machine::Machine;
use crate::report::Report;
use plan::{FULL, QUICK};

/// A part of the table, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    Transcoding,
    Gateway,
    Own,
    Idle,
    Deliveries,
}

const PARTS: [Part; 5] = [Part::Transcoding, Part::Gateway, Part::Own, Part::Idle, Part::Deliveries];

pub(crate) async fn measure(quick: bool, only: Option<Part>, data_dir: Option<PathBuf>) -> anyhow::Result<()> {
    let plan = if quick { QUICK } else { FULL };
    let machine = Machine::prepare(data_dir).await.context("cannot prepare the databases")?;
    let mut report = Report::default();
    for part in PARTS {
        if only.is_some_and(|only| only != part) {
            continue;
        }
        let measured = match part {
            Part::Transcoding => transcoding::measure(&plan, &mut report),
            Part::Gateway => gateway::measure(&plan, &mut report).await,
            Part::Own => own::measure(&plan, &mut report).await,
            Part::Idle => sources::idle(&machine, &plan, &mut report).await,
            Part::Deliveries => sources::deliveries(&machine, &plan, &mut report).await,
        };
        measured.with_context(|| format!("{part:?}"))?;
    }
    println!("{}\n\n{report}", machine.words());
    Ok(())
}

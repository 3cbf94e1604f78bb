//! Measures events: what it costs to publish one, and how fast another service gets it.
//!
//! `cargo run --profile bench-run -p bench -- events` prints one table; docs/BENCHMARKS.md explains it.
//!
//! Modules, in the order of the table: [`publishing`] measures rows that are written with an event, [`replay`] the
//! stream of a reader that is behind, [`newcomer`] the snapshot of one that has nothing, [`following`] a service that
//! applies them to a copy of its own, [`renting`] sagas that publish, and `relay`, with
//! the feature `nats`, how fast a broker gets them. [`site`] is the service under test, and [`plan`] the extent.

mod following;
mod newcomer;
mod plan;
mod publishing;
#[cfg(feature = "nats")]
mod relay;
mod renting;
mod replay;
mod site;

use std::path::PathBuf;

use anyhow::Context as _;

use crate::machine::{Engine, Machine};
use crate::report::Report;
use plan::{FULL, QUICK};

/// A part of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    Publishing,
    Replay,
    Newcomer,
    Following,
    Renting,
    Relay,
}

/// In the order of the table.
const PARTS: [(Part, Engine); 11] = [
    (Part::Publishing, Engine::Sqlite),
    (Part::Publishing, Engine::Postgres),
    (Part::Replay, Engine::Sqlite),
    (Part::Replay, Engine::Postgres),
    (Part::Newcomer, Engine::Sqlite),
    (Part::Following, Engine::Sqlite),
    (Part::Following, Engine::Postgres),
    (Part::Renting, Engine::Sqlite),
    (Part::Renting, Engine::Postgres),
    (Part::Relay, Engine::Sqlite),
    (Part::Relay, Engine::Postgres),
];

pub(crate) async fn measure(quick: bool, only: Option<Part>, data_dir: Option<PathBuf>) -> anyhow::Result<()> {
    let plan = if quick { QUICK } else { FULL };
    let machine = Machine::prepare(data_dir).await.context("cannot prepare the databases")?;
    let mut report = Report::default();
    for (part, engine) in PARTS {
        if only.is_some_and(|only| only != part) {
            continue;
        }
        let place = match machine.place(engine, &format!("{part:?}").to_lowercase()).await? {
            Ok(place) => place,
            Err(why) => {
                report.missing(&format!("{part:?}, {engine}"), &why);
                continue;
            }
        };
        let measured = match part {
            Part::Publishing => publishing::measure(&place, &plan, &mut report).await,
            Part::Replay => replay::measure(&place, &plan, &mut report).await,
            Part::Newcomer => newcomer::measure(&place, &plan, &mut report).await,
            Part::Following => following::measure(&machine, &place, &plan, &mut report).await,
            Part::Renting => renting::measure(&machine, &place, &plan, &mut report).await,
            #[cfg(feature = "nats")]
            Part::Relay => relay::measure(&place, &plan, &mut report).await,
            #[cfg(not(feature = "nats"))]
            Part::Relay => {
                report.missing(&format!("events relayed/s, {engine}"), "built without `--features bench/nats`");
                Ok(())
            }
        };
        measured.with_context(|| format!("{part:?} on {engine}"))?;
    }
    println!("{}\n\n{report}", machine.words());
    Ok(())
}

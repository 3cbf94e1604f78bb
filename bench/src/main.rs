//! How fast long-running operations are, beside what the same machine could do without the kit.
//!
//! `cargo run --profile bench-run -p bench -- operations` prints one table; docs/BENCHMARKS.md has one, and says how to
//! read it. A number alone says more about the disk than about the kit, so both sides take turns, round by round, on
//! the same database; the table has the median of the rounds, their spread, and the ratio within each round.
//!
//! Rooms of the operations, in the order of the table: [`starts`], [`lifecycles`], [`watching`], [`deliveries`], [`memory`] are what is
//! measured. [`limit`] is the other side: bare loops of SQL. [`service`] is the service that is measured, [`server`]
//! the same in a process of its own; [`plan`] is how much is measured, [`machine`] knows the disk and the databases, [`postgres`] starts one; [`report`]
//! makes the table.

mod calls;
mod deliveries;
mod lifecycles;
mod limit;
mod machine;
mod memory;
mod plan;
mod postgres;
mod report;
mod server;
mod service;
mod starts;
mod watching;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};

use calls::peer::Side;
use machine::{Disk, Engine, Machine};
use plan::{FULL, QUICK};
use report::Report;

#[derive(Parser)]
#[command(about = "Measures the kit beside what the machine could do without it.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Long-running operations: one table, in three to four minutes
    Operations {
        /// Seconds instead of minutes: shows that everything works, and no number that counts
        #[arg(long)]
        quick: bool,
        /// One part only
        #[arg(long)]
        only: Option<Part>,
        /// Where the databases are: a real disk [default: beside this program, which is Cargo's target directory]
        #[arg(long, value_name = "FOLDER")]
        data_dir: Option<PathBuf>,
    },
    /// Calls between services: one table, in two minutes
    Calls {
        /// Seconds instead of minutes: shows that everything works, and no number that counts
        #[arg(long)]
        quick: bool,
        /// One part only
        #[arg(long)]
        only: Option<calls::Part>,
    },
    /// What this program runs of itself: a server in a process of its own
    #[command(hide = true)]
    Serve { data_dir: PathBuf, url: String, telling: usize },
    /// The same for calls
    #[command(hide = true)]
    ServeCalls { side: Side },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Starts,
    Lifecycles,
    Watching,
    Deliveries,
    Memory,
}

/// In the order of the table. What only reads says little of a database, and is measured on one.
const PARTS: [(Part, Engine); 8] = [
    (Part::Starts, Engine::Sqlite),
    (Part::Starts, Engine::Postgres),
    (Part::Lifecycles, Engine::Sqlite),
    (Part::Lifecycles, Engine::Postgres),
    (Part::Watching, Engine::Sqlite),
    (Part::Watching, Engine::Postgres),
    (Part::Deliveries, Engine::Sqlite),
    (Part::Memory, Engine::Sqlite),
];

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from);
    let ended = runtime.and_then(|runtime| {
        let ended = runtime.block_on(async {
            match command {
                Command::Operations { quick, only, data_dir } => tokio::select! {
                    ended = operations(quick, only, data_dir) => ended,
                    // Not by the default handler, which would leave databases and a Postgres behind.
                    _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
                },
                Command::Calls { quick, only } => calls::measure(quick, only).await,
                Command::ServeCalls { side } => side.serve().await,
                Command::Serve { data_dir, url, telling } => server::serve(&data_dir, &url, telling).await,
            }
        });
        // What still works somewhere holds nothing that anybody wants.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", format!("{error:#}").replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

async fn operations(quick: bool, only: Option<Part>, data_dir: Option<PathBuf>) -> anyhow::Result<()> {
    let plan = if quick { QUICK } else { FULL };
    let machine = Machine::prepare(data_dir).await.context("cannot prepare the databases")?;
    let mut report = Report::default();

    let mut disk = Disk::default();
    for (part, engine) in PARTS {
        if only.is_some_and(|only| only != part) {
            continue;
        }
        machine.flush(&plan, &mut disk).await.context("cannot measure the disk")?;
        let measured = match part {
            Part::Starts => starts::measure(&machine, engine, &plan, &mut report).await,
            Part::Lifecycles => lifecycles::measure(&machine, engine, &plan, &mut report).await,
            Part::Watching => watching::measure(&machine, engine, &plan, &mut report).await,
            Part::Deliveries => deliveries::measure(&machine, engine, &plan, &mut report).await,
            Part::Memory => memory::measure(&machine, engine, &plan, &mut report).await,
        };
        measured.with_context(|| format!("{part:?} on {engine}"))?;
    }
    disk.tell(&mut report);
    println!("{}\n\n{report}", machine.words());
    Ok(())
}

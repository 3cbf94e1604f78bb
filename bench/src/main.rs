//! Measures long-running operations, beside what the same machine does without mesh.
//!
//! `cargo run --profile bench-run -p bench -- operations` prints one table; docs/BENCHMARKS.md has one and explains it.
//! A number alone depends more on the disk than on mesh, so both sides take turns, round by round, on the same
//! database. The table has the median of the rounds, their spread, and the ratio within each round.
//!
//! Modules, in the order of the table: [`starts`], [`lifecycles`], [`watching`], [`deliveries`] and [`memory`] measure.
//! [`limit`] is the reference: bare loops of SQL. [`service`] is the service under test, [`server`] the same in a
//! process of its own. [`plan`] has the extent of the measurement, [`machine`] the disk and the databases; [`postgres`]
//! starts a server; [`report`] prints the table.

mod auth;
mod calls;
mod compose;
mod deliveries;
mod edge;
mod envoy;
mod events;
mod lifecycles;
mod limit;
mod machine;
mod memory;
mod plan;
mod postgres;
mod report;
mod server;
mod service;
mod sidecar;
mod starts;
mod watching;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};

use calls::peer::Side;
use machine::{Disk, Engine, Machine};
use plan::{FULL, QUICK};
use report::Report;

#[derive(Parser)]
#[command(about = "Measures mesh beside a reference on the same machine.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Long-running operations: one table, in three to four minutes
    Operations {
        /// Takes seconds instead of minutes: shows that everything works; the numbers do not count
        #[arg(long)]
        quick: bool,
        /// Measures one part only
        #[arg(long)]
        only: Option<Part>,
        /// The folder of the databases, on a real disk [default: beside this program, in Cargo's target directory]
        #[arg(long, value_name = "FOLDER")]
        data_dir: Option<PathBuf>,
    },
    /// Calls between services: one table, in four minutes
    Calls {
        /// Takes seconds instead of minutes: shows that everything works; the numbers do not count
        #[arg(long)]
        quick: bool,
        /// Measures one part only
        #[arg(long)]
        only: Option<calls::Part>,
    },
    /// Who calls: mutual TLS, tokens and handshakes; one table, in a minute
    Auth {
        /// Takes seconds instead of minutes: shows that everything works; the numbers do not count
        #[arg(long)]
        quick: bool,
        /// Measures one part only
        #[arg(long)]
        only: Option<auth::Part>,
    },
    /// The edge: one table, in two minutes
    Edge {
        /// Takes seconds instead of minutes: shows that everything works; the numbers do not count
        #[arg(long)]
        quick: bool,
        /// Measures one part only
        #[arg(long)]
        only: Option<edge::Part>,
        /// The folder of the databases, on a real disk [default: beside this program, in Cargo's target directory]
        #[arg(long, value_name = "FOLDER")]
        data_dir: Option<PathBuf>,
    },
    /// Composed answers, in a project with the example `film`: one table, in two minutes
    Compose {
        /// Takes seconds instead of minutes: shows that everything works; the numbers do not count
        #[arg(long)]
        quick: bool,
    },
    /// Events of services: one table, in three minutes
    Events {
        /// Takes seconds instead of minutes: shows that everything works; the numbers do not count
        #[arg(long)]
        quick: bool,
        /// Measures one part only
        #[arg(long)]
        only: Option<events::Part>,
        /// The folder of the databases, on a real disk [default: beside this program, in Cargo's target directory]
        #[arg(long, value_name = "FOLDER")]
        data_dir: Option<PathBuf>,
    },
    /// The sidecar beside Envoy: one table, in three minutes
    Sidecar {
        /// Takes seconds instead of minutes: shows that everything works; the numbers do not count
        #[arg(long)]
        quick: bool,
        /// Measures one part only
        #[arg(long)]
        only: Option<sidecar::Part>,
    },
    /// A server in a process of its own, which this program starts
    #[command(hide = true)]
    Serve { data_dir: PathBuf, url: String, reporting: usize },
    /// The same for calls
    #[command(hide = true)]
    ServeCalls { side: Side },
    /// The same with certificates, which are in a folder
    #[command(hide = true)]
    ServeSecured { side: auth::site::Side, folder: PathBuf },
    /// The service behind sidecars
    #[command(hide = true)]
    ServeBare,
    /// A gateway in front of it
    #[command(hide = true)]
    ServeGateway { service: SocketAddr },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Starts,
    Lifecycles,
    Watching,
    Deliveries,
    Memory,
}

/// In the order of the table. Reads depend little on the database, and are measured on one.
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
    let mut runtime = match command {
        Command::Sidecar { .. } | Command::ServeBare => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let ended = runtime.enable_all().build().map_err(anyhow::Error::from).and_then(|runtime| {
        let ended = runtime.block_on(async {
            match command {
                Command::Operations { quick, only, data_dir } => tokio::select! {
                    ended = operations(quick, only, data_dir) => ended,
                    // The default handler would leave databases and a Postgres behind.
                    _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
                },
                Command::Edge { quick, only, data_dir } => tokio::select! {
                    ended = edge::measure(quick, only, data_dir) => ended,
                    _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
                },
                Command::Events { quick, only, data_dir } => tokio::select! {
                    ended = events::measure(quick, only, data_dir) => ended,
                    _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
                },
                Command::Compose { quick } => compose::measure(quick).await,
                Command::Calls { quick, only } => calls::measure(quick, only).await,
                Command::Sidecar { quick, only } => sidecar::measure(quick, only).await,
                Command::Auth { quick, only } => auth::measure(quick, only).await,
                Command::ServeSecured { side, folder } => side.serve(&folder).await,
                Command::ServeBare => sidecar::bare::serve().await,
                Command::ServeCalls { side } => side.serve().await,
                Command::ServeGateway { service } => edge::gateway::serve(service).await,
                Command::Serve { data_dir, url, reporting } => server::serve(&data_dir, &url, reporting).await,
            }
        });
        // Tasks that still run hold nothing of value.
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
    disk.add_to(&mut report);
    println!("{}\n\n{report}", machine.words());
    Ok(())
}

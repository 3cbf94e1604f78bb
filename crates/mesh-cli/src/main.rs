//! `mesh`: operations for people. Asks a running mesh what it is doing, through the same contracts that any other
//! client has.
//!
//! Rooms, in reading order: [`target`] finds out whom to ask; [`operations`] and [`watch`] ask after long work,
//! [`services`] after who is there; [`shown`] and [`message`] put what they hear into words. Two ask no mesh: [`up`]
//! starts one, and [`doctor`] says what this machine lacks for it; [`programs`] finds what others have installed.

mod doctor;
mod message;
mod operations;
mod programs;
mod reflection;
mod services;
mod shown;
mod target;
mod up;
mod watch;

use std::io;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand};

use target::{Address, Target};

/// The command line cannot be used. As clap has it.
const USAGE: u8 = 2;
/// What a shell says of a program that wrote to a closed pipe, and died of it.
const CLOSED: u8 = 128 + 13;

/// What the command line may say.
#[derive(Parser)]
#[command(name = "mesh", version, about = "Shows what a mesh is doing: its services, and their long work.")]
#[command(after_help = WHOM)]
struct Cli {
    #[command(flatten)]
    whom: Whom,
    #[command(subcommand)]
    command: Command,
}

const WHOM: &str = "\
Without --address and --consul it asks whoever serves at 127.0.0.1:8080, where the monolith does; if nobody does, the
Consul agent at 127.0.0.1:8500. A token for Consul comes from the environment: MESH__CONSUL__TOKEN.";

#[derive(Args)]
struct Whom {
    /// Ask this process, and no other
    #[arg(long, global = true, value_name = "HOST:PORT")]
    address: Option<Address>,
    /// Ask the services that this Consul agent knows
    #[arg(long, global = true, value_name = "HOST:PORT")]
    consul: Option<Address>,
}

#[derive(Subcommand)]
enum Command {
    /// Long work: what there is of it, and what becomes of it
    #[command(subcommand)]
    Operations(Operations),
    /// Who serves, where, and how well
    Services,
    /// What this machine has of what a mesh needs, and what brings the rest
    ///
    /// A line for every tool and for every port. Exits with 1 if something is missing that `cargo run` and `cargo test`
    /// cannot do without, and with 0 if only optional things are.
    #[command(verbatim_doc_comment)]
    Doctor,
    /// Starts every service of this project in a process of its own, with a Consul agent between them
    ///
    /// For development: the agent lives in memory, and all of it ends with Ctrl-C. Databases are where `cargo run` has
    /// them, so nothing is lost between one way to run it and the other. scripts/up builds first.
    #[command(verbatim_doc_comment)]
    Up {
        /// Where the agent's HTTP API is, on 127.0.0.1; 0 picks a free port
        #[arg(long, value_name = "PORT", default_value_t = up::DEFAULT_PORT)]
        consul_port: u16,
    },
}

#[derive(Subcommand)]
enum Operations {
    /// The operations of a service, the newest first
    List {
        /// Such as artwork; without it, those of every service that does long work
        service: Option<String>,
    },
    /// Everything there is to know of one
    Show {
        /// services/SERVICE/operations/UUID
        name: String,
    },
    /// Follows one to its end: exits with 0 if it succeeded, with 1 if it failed or was cancelled
    ///
    /// It resumes by itself, whatever happens to the server or to the connection.
    /// Ctrl-C ends the watching, not the operation: that goes on, and can be watched again.
    #[command(verbatim_doc_comment)]
    Watch {
        /// services/SERVICE/operations/UUID
        name: String,
    },
    /// Follows all that a service does, until Ctrl-C: a line for every change, beginning with what is not done
    ///
    /// It resumes by itself, and leaves nothing out.
    #[command(verbatim_doc_comment)]
    Follow {
        /// Such as artwork
        service: String,
    },
    /// Starts a new one with what one that has failed was started with, and prints its name
    Retry {
        /// services/SERVICE/operations/UUID
        name: String,
    },
    /// Asks one to stop, which it may not do before it is done
    Cancel {
        /// services/SERVICE/operations/UUID
        name: String,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse().and_then(Cli::checked) {
        Ok(cli) => cli,
        Err(usage) => {
            // Also how `--help` and `--version` end, which are no errors.
            let _ = usage.print();
            return if usage.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match run(cli).await {
        Ok(code) => code,
        Err(error) if is_closed(&error) => ExitCode::from(CLOSED),
        Err(error) => {
            shown::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

impl Cli {
    /// clap notices flags that exclude each other only if both stand on the same side of the command.
    fn checked(self) -> Result<Self, clap::Error> {
        if self.whom.address.is_some() && self.whom.consul.is_some() {
            let conflict = "--address and --consul each say whom to ask: give one of them\n";
            return Err(Self::command().error(ErrorKind::ArgumentConflict, conflict));
        }
        Ok(self)
    }
}

async fn run(Cli { whom, command }: Cli) -> anyhow::Result<ExitCode> {
    // Not before the rest of the command line is known to make sense.
    let target = async || Target::find(whom.address, whom.consul).await;
    match command {
        Command::Up { consul_port } => up::up(consul_port).await,
        Command::Doctor => doctor::doctor(),
        Command::Services => services::list(&target().await?).await,
        Command::Operations(Operations::List { service }) => {
            operations::list(service.as_deref(), &target().await?).await
        }
        Command::Operations(Operations::Show { name }) => operations::show(&name.parse()?, &target().await?).await,
        Command::Operations(Operations::Watch { name }) => watch::watch(&name.parse()?, &target().await?).await,
        Command::Operations(Operations::Follow { service }) => watch::follow_all(&service, &target().await?).await,
        Command::Operations(Operations::Retry { name }) => operations::retry(&name.parse()?, &target().await?).await,
        Command::Operations(Operations::Cancel { name }) => operations::cancel(&name.parse()?, &target().await?).await,
    }
}

/// Whoever read our output has seen enough, as in `mesh services | head -1`.
fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

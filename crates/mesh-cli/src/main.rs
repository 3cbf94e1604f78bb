//! The command `mesh`: shows the services, the long work and the events of a running mesh, through the contracts that
//! every client uses.
//!
//! Modules, in reading order:
//! - [`target`] finds the process or the Consul agent that answers; [`reflection`] lists the contracts of a process.
//! - [`operations`] and [`watch`] show long work, [`events`] shows events, [`services`] shows services.
//! - [`release`] plans deployments.
//! - [`dashboard`] shows all of it as a page.
//! - [`shown`] formats text, [`message`] formats messages of any type.
//! - [`ca`] writes certificates for development, [`token`] signs tokens of users.
//! - [`up`] starts a mesh for development, [`doctor`] checks this machine; [`programs`] finds installed programs.

mod ca;
mod credentials;
mod dashboard;
mod doctor;
mod events;
mod message;
mod operations;
mod programs;
mod reflection;
mod release;
mod services;
mod shown;
mod sidecars;
mod target;
mod token;
mod up;
mod watch;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand};

use dashboard::DashboardOptions;
use events::followers;
use mesh_runtime::command_line::USAGE;
use release::Release;
use target::{Address, Target};

/// The exit code that a shell reports for a program that SIGPIPE ended.
const CLOSED: u8 = 128 + 13;

/// The command line.
#[derive(Parser)]
#[command(name = "mesh", version, about = "Shows the services of a mesh, their long work and their events.")]
#[command(after_help = DEFAULT_TARGET)]
struct Cli {
    #[command(flatten)]
    target: TargetOptions,
    #[command(subcommand)]
    command: Command,
}

const DEFAULT_TARGET: &str = "\
Without --address and --consul, mesh asks the process at 127.0.0.1:8080, the default address of the monolith. If no
process answers there, mesh asks the Consul agent at 127.0.0.1:8500. MESH__CONSUL__TOKEN holds the token for Consul, and
MESH_TOKEN that of a user: with the scope mesh.operator, mesh sees the work of all.";

#[derive(Args)]
struct TargetOptions {
    /// Ask this process only
    #[arg(long, global = true, value_name = "HOST:PORT")]
    address: Option<Address>,
    /// Ask the services that are registered with this Consul agent; without a value, with the one of this machine
    #[arg(long, global = true, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = target::AGENT)]
    consul: Option<Address>,
    /// Mutual TLS by the certificate of `mesh`; for `up`, between all processes
    ///
    /// The certificate is in .mesh/ca, where `mesh ca` and `mesh up --tls` write it, or where
    /// MESH__IDENTITY__CERTIFICATE, MESH__IDENTITY__KEY and MESH__IDENTITY__BUNDLE say. MESH__TLS__MODE=mutual stands
    /// for this option.
    #[arg(long, global = true)]
    tls: bool,
}

#[derive(Subcommand)]
enum Command {
    /// List, show, watch, retry, resume and cancel long work
    #[command(subcommand)]
    Operations(Operations),
    /// List, follow and trace what services publish; show and repair the copies that others keep of it
    #[command(subcommand)]
    Events(Events),
    /// List the services with their addresses and their health
    Services,
    /// Plan, check and compare deployments, by what builds say of themselves
    #[command(subcommand)]
    Release(Release),
    /// Serve a page that shows the mesh at work: services, calls, long work, failures, logs and contracts
    ///
    /// Each process of services also serves it on loopback, as /dashboard/. This command shows all that Consul lists,
    /// until Ctrl-C.
    #[command(verbatim_doc_comment)]
    Dashboard(DashboardOptions),
    /// Check the tools and the ports of this machine, and print how to get the missing ones
    ///
    /// Prints one line for each tool and each port. Exits with 1 if `cargo run` or `cargo test` lacks something, else
    /// with 0: optional tools and ports may be missing.
    #[command(verbatim_doc_comment)]
    Doctor,
    /// Start each service of this project in its own process, with a Consul agent
    ///
    /// For development: the agent keeps its state in memory, and Ctrl-C ends all processes. The services use the same
    /// databases as `cargo run`. A service in another language is a folder under examples/ with a sidecar.toml; one
    /// whose interpreter or packages are missing is left out. scripts/up builds the programs first.
    #[command(verbatim_doc_comment)]
    Up {
        /// The port of the agent's HTTP API on 127.0.0.1; 0 picks a free port
        #[arg(long, value_name = "PORT", default_value_t = up::DEFAULT_PORT)]
        consul_port: u16,
    },
    /// Write certificates for the services of this project, by a certificate authority for development
    ///
    /// The files are in .mesh/ca, which git ignores: ca.pem, and SERVICE.pem and SERVICE.key for each service. The
    /// authority is created once; certificates are written again each time, valid for 24 hours. Running services read
    /// them again.
    #[command(verbatim_doc_comment)]
    Ca {
        /// The services; without one, all folders under services/, and those under examples/ with a sidecar.toml
        services: Vec<String>,
        /// Create another authority first. Services trust both: run `mesh ca` again after 10 s for certificates of the
        /// new one
        #[arg(long, conflicts_with = "services")]
        rotate: bool,
    },
    /// Print a token of a user, by an issuer for development
    ///
    /// The issuer is https://issuer.dev.mesh, and the audience mesh. Its files are in .mesh/ca, which git ignores:
    /// issuer.key signs, and issuer.json has the public key for services. The first command creates both. A program
    /// that can read the key can be any user, so only services on the loopback interface may trust the issuer.
    #[command(verbatim_doc_comment)]
    Token {
        /// The name of the user, such as alice
        #[arg(long, value_name = "NAME")]
        sub: String,
        /// A scope, such as catalog.write; several are separated by commas, or given one by one
        #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
        scopes: Vec<String>,
        /// How long the token is valid, up to 30 days
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
        lifetime: Duration,
    },
}

#[derive(Subcommand)]
enum Operations {
    /// List operations, the newest first
    List {
        /// The service, such as artwork; without it, every service that does long work
        service: Option<String>,
    },
    /// Show every field of one operation
    Show {
        /// services/SERVICE/operations/UUID
        name: String,
    },
    /// Follow one operation to its end; exit with 0 if it succeeds, with 1 if it fails or is cancelled
    ///
    /// The command resumes by itself after a failure of the server or of the connection.
    /// Ctrl-C ends the command; the operation goes on and can be watched again.
    #[command(verbatim_doc_comment)]
    Watch {
        /// services/SERVICE/operations/UUID
        name: String,
    },
    /// Print a line for each change of each operation of a service, until Ctrl-C
    ///
    /// Begins with the operations that are not done. The command resumes by itself and skips no change.
    #[command(verbatim_doc_comment)]
    Follow {
        /// The service, such as artwork
        service: String,
    },
    /// Start a failed operation again with the same input, and print the name of the new operation
    Retry {
        /// services/SERVICE/operations/UUID
        name: String,
    },
    /// Let a saga that is stuck go on, as the same operation; mend what its steps failed with first
    Resume {
        /// services/SERVICE/operations/UUID
        name: String,
    },
    /// Request cancellation; the operation may still succeed
    Cancel {
        /// services/SERVICE/operations/UUID
        name: String,
    },
}

#[derive(Subcommand)]
enum Events {
    /// List the services that publish events, with the last position and the number of events that are kept
    List,
    /// Print a line for each new event of a service, until Ctrl-C
    ///
    /// A line has the time, the position, the type, the key and the content of an event.
    /// The command resumes by itself and skips no event.
    #[command(verbatim_doc_comment)]
    Follow {
        /// The service, such as catalog
        source: String,
        /// Print events of these types only, such as catalog.v1.TitleAdded,catalog.v1.TitleRemoved
        #[arg(long, value_name = "TYPE", value_delimiter = ',')]
        types: Vec<String>,
        /// Begin with the present state of the service, as events
        #[arg(long)]
        snapshot: bool,
        /// Print each event as a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show which event caused which, from all services
    Trace {
        /// The correlation id of an event, or the trace id of the call that began it, which the log has
        correlation: String,
    },
    /// List the copies that services keep of what others publish, and how far they are behind
    Lag,
    /// List the events that could not be applied to a copy, and the later ones of their keys
    Parked {
        /// The service that publishes, such as catalog; without it, all of them
        source: Option<String>,
    },
    /// Apply the parked events of one key, in order; mend what they failed with first
    Retry {
        #[command(flatten)]
        copy: CopyOptions,
        /// The key of the events
        key: String,
    },
    /// Delete the parked events of one key without applying them, after two questions
    Skip {
        #[command(flatten)]
        copy: CopyOptions,
        /// The key of the events
        key: String,
        /// Do not ask; needed without a terminal
        #[arg(long)]
        yes: bool,
    },
    /// Build a copy again from the present state of its source; the old copy is served meanwhile
    Rebuild {
        #[command(flatten)]
        copy: CopyOptions,
    },
}

#[derive(Args)]
struct CopyOptions {
    /// The service that publishes, such as catalog
    source: String,
    /// The service that follows, if several follow the source
    #[arg(long)]
    service: Option<String>,
}

impl From<CopyOptions> for followers::Copy {
    fn from(CopyOptions { source, service }: CopyOptions) -> Self {
        Self { source, service }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse().and_then(Cli::checked) {
        Ok(cli) => cli,
        Err(usage) => {
            // clap returns `--help` and `--version` here too; they are not errors.
            let _ = usage.print();
            return if usage.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match run(cli).await {
        Ok(code) => code,
        Err(error) if is_closed(&error) => ExitCode::from(CLOSED),
        Err(error) => {
            shown::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

impl Cli {
    /// Rejects `--address` with `--consul` or `--at`. clap detects the conflict only on the same side of the command.
    fn checked(mut self) -> Result<Self, clap::Error> {
        let has_at = match &mut self.command {
            Command::Release(release) => release.has_at(),
            Command::Dashboard(options) => !options.at.is_empty(),
            _ => false,
        };
        for (is_given, option) in [(self.target.consul.is_some(), "--consul"), (has_at, "--at")] {
            if self.target.address.is_some() && is_given {
                let conflict = format!("--address and {option} exclude each other: give only one of them\n");
                return Err(Self::command().error(ErrorKind::ArgumentConflict, conflict));
            }
        }
        Ok(self)
    }
}

async fn run(Cli { target: options, command }: Cli) -> anyhow::Result<ExitCode> {
    // Connects only after the arguments of the command are parsed.
    let tls = credentials::wants_tls(options.tls);
    let consul = options.consul.is_some();
    let target = async || {
        credentials::read(tls)?;
        Target::find(options.address, options.consul).await
    };
    match command {
        Command::Up { consul_port } => up::up(consul_port, tls).await,
        Command::Ca { services, rotate } => ca::ca(services, rotate),
        Command::Token { sub, scopes, lifetime } => token::token(&sub, &scopes, lifetime),
        Command::Doctor => doctor::doctor(),
        Command::Dashboard(options) => {
            let alone = !options.at.is_empty() && !consul;
            let target = if alone { credentials::read(tls).map(|()| None)? } else { Some(target().await?) };
            dashboard::serve(options, target).await
        }
        Command::Release(command) => release::run(command, tls, consul, target).await,
        Command::Services => services::list(&target().await?).await,
        Command::Events(Events::List) => events::list(&target().await?).await,
        Command::Events(Events::Follow { source, types, snapshot, json }) => {
            events::follow(&source, types, snapshot, json, &target().await?).await
        }
        Command::Events(Events::Trace { correlation }) => {
            events::trace::trace(correlation.parse()?, &target().await?).await
        }
        Command::Events(Events::Lag) => followers::lag(&target().await?).await,
        Command::Events(Events::Parked { source }) => followers::parked(source.as_deref(), &target().await?).await,
        Command::Events(Events::Retry { copy, key }) => followers::retry(&copy.into(), &key, &target().await?).await,
        Command::Events(Events::Skip { copy, key, yes }) => {
            followers::skip(&copy.into(), &key, yes, &target().await?).await
        }
        Command::Events(Events::Rebuild { copy }) => followers::rebuild(&copy.into(), &target().await?).await,
        Command::Operations(Operations::List { service }) => {
            operations::list(service.as_deref(), &target().await?).await
        }
        Command::Operations(Operations::Show { name }) => operations::show(&name.parse()?, &target().await?).await,
        Command::Operations(Operations::Watch { name }) => watch::watch(&name.parse()?, &target().await?).await,
        Command::Operations(Operations::Follow { service }) => watch::follow_all(&service, &target().await?).await,
        Command::Operations(Operations::Retry { name }) => operations::retry(&name.parse()?, &target().await?).await,
        Command::Operations(Operations::Resume { name }) => operations::resume(&name.parse()?, &target().await?).await,
        Command::Operations(Operations::Cancel { name }) => operations::cancel(&name.parse()?, &target().await?).await,
    }
}

/// Whether the reader closed the pipe, as in `mesh services | head -1`.
fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

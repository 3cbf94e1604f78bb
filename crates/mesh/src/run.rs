//! A process from its first line to its last: read the configuration, build, say where, wait, drain. With
//! `--renew-epoch` it does just that, and ends.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::config::{self, Config};
use crate::serve::{Running, start};
use crate::service::{Example, Process, Service};
use crate::{operations, store, telemetry};

/// The configuration, or the command line, cannot be used. As clap has it.
const USAGE: u8 = 2;

/// Runs one service, or an array of them, in this process until SIGTERM or Ctrl-C, and drains them.
///
/// Prints one line for every listener on standard output once it serves; everything else goes to standard error.
///
/// The exit code is 0 after a drain, 2 if the configuration cannot be used, 1 if the process cannot serve.
pub fn run(process: impl Into<Process>) -> ExitCode {
    let process = process.into();
    let config = match Config::load(&process, std::env::args_os(), std::env::vars_os()) {
        Ok(config) => config,
        Err(config::Error::Usage(usage)) => {
            // Also how `--help` and `--version` end, which are no errors.
            let _ = usage.print();
            return if usage.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
        Err(config::Error::Invalid(problems)) => {
            for problem in problems {
                complain(&problem.to_string());
            }
            return ExitCode::from(USAGE);
        }
    };
    let served = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from);
    let served = served.and_then(|runtime| {
        let served = runtime.block_on(async {
            if config.renew_epoch {
                renew_epochs(&process.services, &config).await
            } else {
                serve(process.services, &config).await
            }
        });
        // Not waiting for threads that compute: the drain has kept its limit, and nothing is lost with them.
        runtime.shutdown_background();
        served
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn serve(services: Vec<Service>, config: &Config) -> anyhow::Result<()> {
    let exporter = telemetry::init(config)?;
    let examples: Vec<_> = services.iter().flat_map(Service::examples).cloned().collect();
    // Before anything can be served, so that no signal finds the default handler.
    let mut stop = Stop::listen().context("cannot listen for signals")?;

    let running = start(services, config).await?;
    announce(config, &running, &examples);

    tracing::info!(signal = stop.signal().await, limit = ?config.drain_limit, "draining");
    tokio::select! {
        () = running.drain() => tracing::info!("drained"),
        signal = stop.signal() => tracing::warn!(signal, "not waiting for the drain"),
    }
    // Last, for what was served up to here has spans.
    if let Some(exporter) = exporter {
        exporter.flush().await;
    }
    Ok(())
}

/// What an operator does after a backup was restored: docs/OPERATIONS.md says when and why.
async fn renew_epochs(services: &[Service], config: &Config) -> anyhow::Result<()> {
    for service in services.iter().filter(|service| service.owns_data()) {
        let name = service.name();
        let database = config.database(name).with_context(|| format!("`{name}` has no database"))?;
        let store = store::open(name, database, service.migrations()).await?;
        let renewed = operations::renew_epoch(&store).await;
        store.close().await;
        let epoch = renewed.with_context(|| format!("cannot renew the epoch of `{name}`"))?;
        writeln!(std::io::stdout(), "{name} begins the epoch {epoch}")?;
    }
    Ok(())
}

/// Where, and a first call that works when it is pasted.
fn announce(config: &Config, running: &Running, examples: &[Example]) {
    let mut out = std::io::stdout().lock();
    let address = running.address;
    // A closed standard output is no reason to stop serving.
    let _ = writeln!(out, "{} listening on {address}", config.process);
    if let Some(admin) = running.admin_address {
        let _ = writeln!(out, "{} admin listening on {admin}", config.process);
    }
    let grpcurl = if std::path::Path::new(".tools/bin/grpcurl").exists() { ".tools/bin/grpcurl" } else { "grpcurl" };
    let _ = writeln!(out, "\n  {grpcurl} -plaintext {address} list");
    for Example { method, request } in examples {
        let request = request.replace("{uuid}", &uuid::Uuid::new_v4().to_string());
        let _ = writeln!(out, "  {grpcurl} -plaintext -d '{request}' {address} {method}");
    }
    let _ = writeln!(out);
    let _ = out.flush();
}

fn complain(line: &str) {
    let prefix = if std::io::stderr().is_terminal() { "\x1b[31merror:\x1b[0m" } else { "error:" };
    eprintln!("{prefix} {}", line.replace('\n', " "));
}

/// The signals that ask a process to end.
struct Stop {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Stop {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn signal(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(not(unix))]
impl Stop {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {})
    }

    async fn signal(&mut self) -> &'static str {
        let _ = tokio::signal::ctrl_c().await;
        "Ctrl-C"
    }
}

//! The life of a process: read the configuration, build, print the addresses, wait for a signal, drain.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use mesh_feed::epoch::renew_epoch;
use mesh_rpc::telemetry;
use mesh_runtime::alarm;
use mesh_runtime::command_line::{USAGE, print_error, refuse};
use mesh_runtime::signals::{Signal, Stop};
use mesh_runtime::supervisor::{State, notify};

use crate::announce::announce;
use crate::config::{Config, Instead};
use crate::process::Process;
use crate::release;
use crate::running::{self, start};
use crate::service::Service;

/// The limit for sending the last spans, also while work computes without an await.
const FLUSH_LIMIT: Duration = Duration::from_millis(1500);

/// Runs one service, or an array of them, in this process until SIGTERM, SIGHUP or Ctrl-C, and drains
/// them.
///
/// The process prints one line a listener on standard output once it serves. Everything else goes to standard error.
///
/// `--print-config`, `--check-config`, `--renew-epoch` and `--manifest` replace serving: the process prints the
/// configuration, checks it, renews the epoch of its databases, or writes the manifest of a service, and exits.
///
/// The exit code is 0 after a drain, 2 if the configuration cannot be used, and 1 if the process cannot serve.
pub fn run(process: impl Into<Process>) -> ExitCode {
    let process = process.into();
    match Config::wanted_manifest(&process, std::env::args_os()) {
        Ok(Some(service)) => return write_manifest(&process, &service),
        Ok(None) => {}
        Err(error) => return refuse(error),
    }
    let config = match Config::load(&process, std::env::args_os(), std::env::vars_os()) {
        Ok(config) => config,
        Err(error) => return refuse(error),
    };
    match config.instead {
        Some(Instead::PrintConfig) => return print(&config.listing.to_string()),
        Some(Instead::CheckConfig) => return ExitCode::SUCCESS,
        Some(Instead::RenewEpoch) | None => {}
    }
    let served = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from);
    let served = served.and_then(|runtime| {
        let served = runtime.block_on(async {
            if config.instead == Some(Instead::RenewEpoch) {
                renew_epochs(&process.services, &config).await
            } else {
                serve(process, &config).await
            }
        });
        // Without a wait for blocking threads: the drain has kept its limit, and their results are not needed.
        runtime.shutdown_background();
        served
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes the manifest of a service to standard output.
fn write_manifest(process: &Process, service: &str) -> ExitCode {
    match release::write(process, service) {
        Ok(manifest) => {
            let mut out = std::io::stdout();
            let Err(error) = out.write_all(&manifest).and_then(|()| out.flush()) else { return ExitCode::SUCCESS };
            print_error(&format!("the manifest cannot be written: {error}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            print_error(&format!("{error:#}"));
            ExitCode::from(USAGE)
        }
    }
}

async fn serve(process: Process, config: &Config) -> anyhow::Result<()> {
    let exporter = telemetry::init(&config.log, config.otlp.as_ref(), config.process)?;
    let examples: Vec<_> = process.services.iter().flat_map(Service::examples).cloned().collect();
    // Before the process serves: until then, the default handler ends it at once.
    let mut stop = Stop::listen().context("cannot listen for signals")?;

    let running = tokio::select! {
        running = start(process, config) => running?,
        // A migration that is interrupted is rolled back.
        signal = stop.signal() => {
            tracing::info!(signal = signal.name(), "stopped before the process served");
            return Ok(());
        }
    };
    announce(config, &running, &examples);
    notify(State::Ready);

    let signal = stop.signal().await;
    notify(State::Stopping);
    // A person waits for Ctrl-C, and no balancer sends calls.
    let delay = if signal == Signal::Interrupt { Duration::ZERO } else { config.drain.delay };
    tracing::info!(signal = signal.name(), ?delay, limit = ?config.drain.limit, "draining");
    tokio::select! {
        () = running.drain(delay) => tracing::info!("drained"),
        signal = stop.signal() => tracing::warn!(signal = signal.name(), "second signal: the drain ends now"),
    }
    // Last, so that the spans of all calls are exported.
    if let Some(exporter) = exporter {
        tokio::select! {
            () = exporter.flush() => {}
            () = alarm(FLUSH_LIMIT) => {}
        }
    }
    Ok(())
}

/// Renews the epoch of each database, after a backup was restored. See docs/operate/backup.md.
async fn renew_epochs(services: &[Service], config: &Config) -> anyhow::Result<()> {
    for service in services.iter().filter(|service| service.owns_data()) {
        let name = service.name();
        let (database, limits) = config.database(name).with_context(|| format!("`{name}` has no database"))?;
        let store = running::open(service, database, limits).await?;
        let renewed = renew_epoch(&store).await;
        store.close().await;
        let epoch = renewed.with_context(|| format!("cannot renew the epoch of `{name}`"))?;
        writeln!(std::io::stdout(), "{name} begins the epoch {epoch}")?;
    }
    Ok(())
}

fn print(text: &str) -> ExitCode {
    // Only a closed standard output can fail here.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

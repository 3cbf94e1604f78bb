//! A sidecar: a process beside a program in any language, the app, that makes it a full member of the mesh.
//!
//! Calls of other processes arrive at `listen`, pass the layers of every process (access, deadlines, limits, metrics,
//! traces, health), and go to the app on loopback. The app calls others at one address of loopback; the sidecar finds
//! them, balances, repeats what the contract allows, and speaks TLS. It has no data, and does not decode a body.
//!
//! Modules, in order of dependency: `health` asks the app for its health, `headers` has what goes on, `settings` and
//! `config` read the configuration, `app` answers by the app, `inbound` lets HTTP pass the layers, `outbound` is the
//! app's way to others, `child` runs the app, `running` is the life of all of it.
//!
//! See: decision 0044, docs/guide/other-languages.md

mod app;
mod child;
mod config;
mod headers;
mod health;
mod inbound;
mod outbound;
mod running;
mod settings;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use mesh_rpc::telemetry;
use mesh_runtime::alarm;
use mesh_runtime::command_line::{print_error, refuse};

use config::Config;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The limit for sending the last spans.
const FLUSH_LIMIT: Duration = Duration::from_millis(1500);

fn main() -> ExitCode {
    let config = match Config::load(contracts::FILE_DESCRIPTOR_SET, std::env::args_os(), std::env::vars_os()) {
        Ok(config) => config,
        Err(error) => return refuse(error),
    };
    if config.print {
        // Only a closed standard output can fail here.
        let _ = std::io::stdout().write_all(config.listing.to_string().as_bytes());
    }
    if config.print || config.check_only {
        return ExitCode::SUCCESS;
    }
    // One thread: a second one costs more than it gives to a process that copies bytes.
    let served = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from);
    let served = served.and_then(|runtime| {
        let served = runtime.block_on(observed(config));
        runtime.shutdown_background();
        served
    });
    match served {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            print_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn observed(config: Config) -> anyhow::Result<u8> {
    let exporter = telemetry::init(&config.log, config.otlp.as_ref(), config.sidecar.service)?;
    let served = running::serve(config).await;
    // Last, so that the spans of all calls are exported.
    if let Some(exporter) = exporter {
        tokio::select! {
            () = exporter.flush() => {}
            () = alarm(FLUSH_LIMIT) => {}
        }
    }
    served
}

//! A real mesh for the tests of a service: on a free port of 127.0.0.1, with its databases in a temporary folder.

use std::ffi::OsString;

use mesh_rpc::call::{Caller, Context};
use mesh_rpc::{client, telemetry};

use crate::config::Config;
use crate::process::Process;
use crate::running::{Running, start};

/// Begins to log with the default configuration; once a process. A benchmark needs it: spans that are not written cost
/// nothing.
///
/// # Panics
///
/// If something logs already.
pub fn log() {
    let process = Process::from(crate::Service::new("test", &[]));
    let config = Config::load(&process, [OsString::from("test")], []).expect("a configuration");
    telemetry::init(&config.log, config.otlp.as_ref(), config.process).expect("nobody else to log");
}

/// A mesh that ends, and leaves nothing behind, when it is dropped.
pub struct Mesh {
    running: Running,
    folder: tempfile::TempDir,
}

impl Mesh {
    /// Serves one service, or an array of them.
    ///
    /// # Panics
    ///
    /// If they cannot be served: a test has nothing better to do.
    pub async fn start(process: impl Into<Process>) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder"), &[], process).await
    }

    /// The same where another one has been, or with settings: `services.catalog.database_url=postgres://…`.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub async fn start_in(folder: tempfile::TempDir, settings: &[String], process: impl Into<Process>) -> Self {
        let process = process.into();
        let data_dir = format!("--data-dir={}", folder.path().display());
        let arguments = ["test", "--listen=127.0.0.1:0", "--set=registry=local", &data_dir].map(OsString::from);
        let settings = settings.iter().map(|setting| format!("--set={setting}").into());
        let config = Config::load(&process, arguments.into_iter().chain(settings), []).expect("a configuration");
        let running = start(process.services, &config).await.expect("a mesh that serves");
        Self { running, folder }
    }

    /// Ends it well, and gives what it leaves behind.
    pub async fn drain(self) -> tempfile::TempDir {
        self.running.drain().await;
        self.folder
    }

    /// Where it serves, for a client outside the mesh.
    pub fn url(&self) -> String {
        format!("http://{}", self.running.address)
    }

    /// A channel to one of its services, as a service in the same process has it.
    pub fn channel(&self, service: &'static str) -> client::Channel {
        self.running.channel(service)
    }
}

/// Makes the calls of a future as another caller, over in-memory channels: the operations that they start are that
/// caller's. Over the network each caller is anonymous until there is authentication.
pub async fn as_caller<F: Future>(name: impl AsRef<str>, calls: F) -> F::Output {
    Context { caller: Caller::named(name.as_ref()), ..Context::current() }.scope(calls).await
}

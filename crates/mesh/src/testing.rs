//! A real mesh for the tests of a service: on a free port of 127.0.0.1, with its databases in a temporary folder. And,
//! for the benchmark, [`layers`] with fewer and fewer of its parts.

pub mod layers;

use std::ffi::OsString;

use crate::config::Config;
use crate::serve::{Running, start};
use crate::service::Process;

/// Begins to log as a process does that nobody configured; once a process. A benchmark needs it: spans that nobody looks
/// at cost nothing.
///
/// # Panics
///
/// If something logs already.
pub fn log() {
    let process = Process::from(crate::Service::new("test", &[]));
    let config = Config::load(&process, [OsString::from("test")], []).expect("a configuration");
    crate::telemetry::init(&config).expect("nobody else to log");
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

    /// A channel to one of its services, as a service in the same process would have it.
    pub fn channel(&self, service: &'static str) -> crate::Channel {
        self.running.channel(service)
    }
}

tokio::task_local! {
    static OWNER: String;
}

/// Calls as somebody of that name would, once there is authentication: what operations are started here are theirs.
pub async fn as_owner<F: Future>(name: impl Into<String>, call: F) -> F::Output {
    OWNER.scope(name.into(), call).await
}

pub(crate) fn pretended_owner() -> Option<String> {
    OWNER.try_with(Clone::clone).ok()
}

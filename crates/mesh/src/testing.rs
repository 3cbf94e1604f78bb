//! A real mesh for the tests of a service: on a free port of 127.0.0.1, with databases in a temporary folder.
//!
//! See: docs/guide/testing.md

mod bounds;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_rpc::call::{Caller, Context, User};
use mesh_rpc::{client, telemetry};

use crate::config::Config;
use crate::process::Process;
use crate::running::{Running, start};

pub use bounds::bounds;

/// Starts logging with the default configuration, once a process. Benchmarks call it, since spans cost nothing without
/// a subscriber.
///
/// # Panics
///
/// If a subscriber is already set.
pub fn log() {
    let process = Process::from(crate::Service::new("test", &[]));
    let config = config(&process, []);
    telemetry::init(&config.log, config.otlp.as_ref(), config.process).expect("no other subscriber");
}

/// The default configuration with these arguments.
fn config(process: &Process, arguments: impl IntoIterator<Item = OsString>) -> Config {
    // In the place of a mesh.toml in the current folder, which may name services that the process does not have.
    let empty = tempfile::NamedTempFile::new().expect("a temporary file");
    let file = OsString::from(format!("--config={}", empty.path().display()));
    let arguments = [OsString::from("test"), file].into_iter().chain(arguments);
    Config::load(process, arguments, []).expect("a configuration")
}

/// A mesh under test. A drop ends it and deletes its folder.
pub struct Mesh {
    running: Running,
    folder: tempfile::TempDir,
}

impl Mesh {
    /// Serves one service, or an array of them.
    ///
    /// # Panics
    ///
    /// If they cannot be served.
    pub async fn start(process: impl Into<Process>) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder"), &[], process).await
    }

    /// Serves in a folder, such as the one of an earlier mesh, and with settings such as
    /// `services.catalog.database_url=postgres://…`.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub async fn start_in(folder: tempfile::TempDir, settings: &[String], process: impl Into<Process>) -> Self {
        let process = process.into();
        let data_dir = format!("--data-dir={}", folder.path().display());
        let arguments = ["--listen=127.0.0.1:0", "--set=registry=local", &data_dir].map(OsString::from);
        let settings = settings.iter().map(|setting| format!("--set={setting}").into());
        let config = config(&process, arguments.into_iter().chain(settings));
        let running = start(process, &config).await.expect("a mesh that serves");
        Self { running, folder }
    }

    /// Drains the mesh, and returns its folder with the databases.
    pub async fn drain(self) -> tempfile::TempDir {
        self.running.drain(Duration::ZERO).await;
        self.folder
    }

    /// The URL for a client outside the mesh.
    pub fn url(&self) -> String {
        format!("http://{}", self.running.address)
    }

    /// A channel to one of its services, in memory.
    pub fn channel(&self, service: &'static str) -> client::Channel {
        self.running.channel(service)
    }
}

/// Runs `calls` as the caller `name`. It takes effect over in-memory channels: operations that the calls start belong
/// to this caller. Over the network a caller is who its token says, and with `auth.mode = "required"` it is the
/// process itself: use [`as_user`].
pub async fn as_caller<F: Future>(name: impl AsRef<str>, calls: F) -> F::Output {
    Context { caller: Caller::named(name.as_ref()), ..Context::current() }.scope(calls).await
}

/// Runs `calls` as a user with scopes. It takes effect as [`as_caller`] does.
pub async fn as_user<F: Future>(subject: &str, scopes: &[&str], calls: F) -> F::Output {
    let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    let until = SystemTime::now() + Duration::from_secs(3600);
    let user = User { issuer: "https://issuer.test".to_owned(), subject: subject.to_owned(), scopes, until };
    Context { caller: Caller::user(Arc::new(user)), ..Context::current() }.scope(calls).await
}

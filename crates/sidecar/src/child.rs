//! The app as a child of the sidecar.
//!
//! Its environment has `SIDECAR_APP`, the address to listen on, and `SIDECAR_OUTBOUND`, the address at which it calls
//! others. Its standard input ends with the sidecar, also if the sidecar is killed.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};

use anyhow::Context as _;
use tokio::process::{Child as Process, ChildStdin, Command};

/// A running app. A drop kills it.
pub(crate) struct Child {
    process: Process,
    /// The process group that the app leads.
    group: u32,
    /// Kept here: tokio would close it before it waits.
    _stdin: Option<ChildStdin>,
}

impl Child {
    /// Starts the app.
    ///
    /// # Errors
    ///
    /// There is no such program, or it cannot be started.
    pub(crate) fn start(command: &[OsString], app: SocketAddr, outbound: SocketAddr) -> anyhow::Result<Option<Self>> {
        let Some((program, arguments)) = command.split_first() else { return Ok(None) };
        let mut command = Command::new(program);
        command.args(arguments).env("SIDECAR_APP", app.to_string()).env("SIDECAR_OUTBOUND", outbound.to_string());
        // They are no keys of another process of the mesh.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MESH__SIDECAR__")) {
            command.env_remove(name);
        }
        // Ctrl-C reaches the sidecar alone, which ends the app in order.
        #[cfg(unix)]
        command.process_group(0);
        let started = command.stdin(Stdio::piped()).kill_on_drop(true).spawn();
        let shown = program.to_string_lossy();
        let mut process = started.with_context(|| {
            format!("cannot start the app `{shown}`: check the command behind --, or sidecar.command")
        })?;
        let group = process.id().unwrap_or_default();
        Ok(Some(Self { _stdin: process.stdin.take(), process, group }))
    }

    /// Waits until the app has ended.
    pub(crate) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Sends SIGTERM to the app and to the processes that it has started.
    pub(crate) async fn terminate(&mut self) {
        if self.process.id().is_some() && !self.signal("TERM").await {
            let _ = self.process.start_kill();
        }
    }

    /// Ends at once what is left of the app and of the processes that it has started.
    pub(crate) async fn kill(&mut self) {
        self.signal("KILL").await;
        let _ = self.process.start_kill();
    }

    /// Sends a signal to the process group of the app. The standard library and tokio send SIGKILL alone, and to one
    /// process.
    async fn signal(&self, name: &str) -> bool {
        let group = format!("-{}", self.group);
        let sent = Command::new("sh").args(["-c", "kill -\"$0\" \"$1\" 2>/dev/null", name, &group]).status().await;
        sent.is_ok_and(|status| status.success())
    }
}

/// The exit code of a sidecar whose app has ended after SIGTERM: that of the app, and 0 if it has no handler for the
/// signal.
pub(crate) fn code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    if std::os::unix::process::ExitStatusExt::signal(&status) == Some(SIGTERM) {
        return 0;
    }
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(unix)]
const SIGTERM: i32 = 15;

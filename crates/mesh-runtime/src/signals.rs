//! The signals that end a process: SIGTERM, SIGHUP and SIGINT, or Ctrl-C on other systems than Unix.
//!
//! Guarantees: a signal is noticed while every worker of the runtime is busy. A thread of its own receives it.

use std::io;
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::mpsc;

/// A signal that ends a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    /// SIGTERM: a supervisor ends the process.
    Terminate,
    /// SIGHUP: the terminal of the process closes. On Linux, a process that was started with SIGHUP ignored, as by
    /// `nohup`, goes on ignoring it.
    HangUp,
    /// SIGINT, or Ctrl-C: a person at the terminal ends the process, and waits.
    Interrupt,
}

impl Signal {
    /// The name of the signal.
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::HangUp => "SIGHUP",
            Self::Interrupt => "SIGINT",
        }
    }
}

/// Receives the signals from its creation on. Create it before the process serves: until then, the default handler ends
/// the process at once.
pub struct Stop {
    signals: mpsc::UnboundedReceiver<Signal>,
}

impl Stop {
    /// Installs the handlers. On other systems than Unix, the thread installs that of Ctrl-C a moment later.
    ///
    /// # Errors
    ///
    /// The operating system refuses to install a handler; the process cannot drain.
    pub fn listen() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut handlers = {
            let _within = runtime.enter();
            Handlers::install()?
        };
        let (sender, signals) = mpsc::unbounded_channel();
        let forward = async move {
            while let Some(signal) = handlers.next().await {
                // Closed: nothing waits for a signal any more.
                if sender.send(signal).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(forward))?;
        Ok(Self { signals })
    }

    /// Waits for the next signal.
    pub async fn signal(&mut self) -> Signal {
        match self.signals.recv().await {
            Some(signal) => signal,
            // No further signal can be received: on other systems than Unix, if there is no handler for Ctrl-C.
            None => std::future::pending().await,
        }
    }
}

#[cfg(unix)]
struct Handlers {
    terminate: tokio::signal::unix::Signal,
    hang_up: Option<tokio::signal::unix::Signal>,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Handlers {
    fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let hang_up = if ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) };
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, hang_up, interrupt })
    }

    async fn next(&mut self) -> Option<Signal> {
        let hang_up = async {
            match &mut self.hang_up {
                Some(hang_up) => hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            received = self.terminate.recv() => received.map(|()| Signal::Terminate),
            received = hang_up => received.map(|()| Signal::HangUp),
            received = self.interrupt.recv() => received.map(|()| Signal::Interrupt),
        }
    }
}

/// Whether the process was started with SIGHUP ignored, as `nohup` does. False where the system has no /proc of Linux.
#[cfg(unix)]
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The lowest bit of the mask is signal 1, SIGHUP.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(not(unix))]
struct Handlers;

#[cfg(not(unix))]
impl Handlers {
    fn install() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Option<Signal> {
        tokio::signal::ctrl_c().await.ok().map(|()| Signal::Interrupt)
    }
}

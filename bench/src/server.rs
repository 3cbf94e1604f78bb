//! The service in a process of its own, which runs this program: so its memory is its own, and deliveries cross
//! processes.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::machine::{Engine, Place};
use crate::service::{Reporting, Site};

/// Serves in the other process: prints the URL, and ends at the end of its input.
pub(crate) async fn serve(data_dir: &Path, url: &str, reporting: usize) -> anyhow::Result<()> {
    let place = Place { engine: Engine::Sqlite, url: url.to_owned(), folder: data_dir.to_owned() };
    let site = Site::start(&place, Reporting).await?;
    let mut words = vec![site.mesh.url()];
    for _ in 0..reporting {
        words.push(site.begin::<Reporting>(false).await?);
    }
    writeln!(std::io::stdout(), "{}", words.join(" "))?;
    until_its_input_ends().await
}

/// Waits for the end of the input: the process ends with the one that started it.
pub(crate) async fn until_its_input_ends() -> anyhow::Result<()> {
    tokio::task::spawn_blocking(|| std::io::stdin().lines().for_each(drop)).await?;
    Ok(())
}

/// A server in another process. It is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    /// The names of the operations that report steps.
    pub(crate) reporting: Vec<String>,
}

impl Server {
    pub(crate) fn start(place: &Place, reporting: usize) -> anyhow::Result<Self> {
        Self::run([OsStr::new("serve"), place.folder.as_ref(), place.url.as_ref(), reporting.to_string().as_ref()])
    }

    /// Starts this program again with arguments that say what to serve.
    pub(crate) fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("this program does not start again")?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("a child has an output")?;
        let mut server = Self { child, url: String::new(), reporting: Vec::new() };
        BufReader::new(stdout).read_line(&mut line)?;
        let mut words = line.split_whitespace().map(ToOwned::to_owned);
        server.url = words.next().context("the server has ended before it served")?;
        server.reporting = words.collect();
        Ok(server)
    }

    /// The address it listens on.
    pub(crate) fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.url.trim_start_matches("http://").parse()?)
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory in bytes; `None` without /proc.
    pub(crate) fn resident(&self) -> Option<f64> {
        resident(self.id())
    }
}

/// The resident memory of a process in bytes; `None` without /proc.
pub(crate) fn resident(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u32 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(f64::from(kibibytes) * 1024.0)
}

/// The CPU time of a process that its threads have used until now; `None` without Linux's /proc. Threads that have
/// ended do not count: those that call and serve last as long as the process.
pub(crate) fn cpu_time(process: u32) -> Option<Duration> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let used = threads.filter_map(|thread| {
        let schedule = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        // The first of three numbers is the nanoseconds on a core.
        schedule.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    });
    Some(used.sum()).filter(|used: &Duration| !used.is_zero())
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its data is temporary.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

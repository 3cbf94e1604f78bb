//! What the numbers depend on beside the code: the disk, and the databases on it.

use std::fmt;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, ConnectOptions as _};
use tempfile::TempDir;

use crate::plan::Plan;
use crate::postgres::Postgres;
use crate::report::{Report, Samples};

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    /// How many connections the kit writes with; the other side has as many.
    pub(crate) fn writers(self) -> usize {
        match self {
            Self::Sqlite => 1,
            Self::Postgres => 10,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "Postgres",
        })
    }
}

/// A database of its own, for one part of the benchmark.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) engine: Engine,
    pub(crate) url: String,
    /// For whatever else a process keeps.
    pub(crate) folder: PathBuf,
}

impl Place {
    /// A connection as the kit has it, and as durable, past the kit.
    pub(crate) async fn connect(&self) -> sqlx::Result<AnyConnection> {
        sqlx::any::install_default_drivers();
        let options: AnyConnectOptions = self.url.parse()?;
        let mut connection = options.disable_statement_logging().connect().await?;
        if self.engine == Engine::Sqlite {
            let pragmas = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                           PRAGMA foreign_keys = ON;";
            sqlx::raw_sql(pragmas).execute(&mut connection).await?;
        }
        Ok(connection)
    }
}

/// The wall: how often a second the disk can be asked to keep something. A write-ahead log grows until it is read back,
/// and is written over from then on. A machine that others use, too, has another disk every minute: so it is measured
/// again and again between the rest.
#[derive(Default)]
pub(crate) struct Disk {
    over: Samples,
    behind: Samples,
}

impl Disk {
    pub(crate) fn tell(&self, report: &mut Report) {
        report.machine("fsyncs/s of the disk, each behind a page written over another", &self.over);
        report.machine("fsyncs/s of the disk, each behind a page appended", &self.behind);
    }
}

/// Where everything is.
pub(crate) struct Machine {
    folder: TempDir,
    postgres: Result<Postgres, String>,
}

impl Machine {
    pub(crate) async fn prepare(folder: Option<PathBuf>) -> anyhow::Result<Self> {
        let folder = match folder {
            Some(folder) => std::path::absolute(folder)?,
            None => std::env::current_exe()?.parent().context("this program is in no folder")?.to_owned(),
        };
        let postgres = Postgres::start(&folder).await.map_err(|why| format!("{why:#}"));
        let folder = tempfile::Builder::new().prefix("bench-data-").tempdir_in(folder)?;
        // Out of reach of a mesh.toml that is meant for something else.
        std::env::set_current_dir(folder.path())?;
        Ok(Self { folder, postgres })
    }

    /// A new database; or why there is none.
    pub(crate) async fn place(&self, engine: Engine, name: &str) -> anyhow::Result<Result<Place, String>> {
        let folder = self.folder.path().to_owned();
        let url = match (engine, &self.postgres) {
            (Engine::Sqlite, _) => format!("sqlite://{}", folder.join(format!("{name}.db")).display()),
            (Engine::Postgres, Ok(server)) => server.database(name).await?,
            (Engine::Postgres, Err(why)) => return Ok(Err(why.clone())),
        };
        Ok(Ok(Place { engine, url, folder }))
    }

    /// Measures the disk once, for both samples of `disk`.
    pub(crate) async fn flush(&self, plan: &Plan, disk: &mut Disk) -> anyhow::Result<()> {
        for (samples, around) in [(&mut disk.over, Some(256)), (&mut disk.behind, None)] {
            let (path, time) = (self.folder.path().join("fsyncs"), plan.turn / 4);
            samples.push(tokio::task::spawn_blocking(move || fsyncs(&path, around, time)).await??);
        }
        Ok(())
    }

    /// What somebody has to know who compares the table with another one.
    pub(crate) fn words(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        let filesystem = filesystem(self.folder.path()).unwrap_or_else(|| "an unknown filesystem".to_owned());
        format!("{cores} cores, {os} on {arch}, databases on {filesystem}.")
    }
}

/// Flushes page after page; `around` and around over so many, or on and on.
fn fsyncs(path: &Path, around: Option<u32>, time: Duration) -> std::io::Result<f64> {
    let page = [1; 4096];
    let mut file = File::create(path)?;
    // What is written over has to be there.
    for _ in 0..around.unwrap_or_default() {
        file.write_all(&page)?;
    }
    file.sync_all()?;
    let (begin, mut flushed) = (Instant::now(), 0_u32);
    while begin.elapsed() < time {
        if around.is_some_and(|around| flushed.is_multiple_of(around)) {
            file.seek(SeekFrom::Start(0))?;
        }
        file.write_all(&page)?;
        file.sync_data()?;
        flushed += 1;
    }
    Ok(f64::from(flushed) / begin.elapsed().as_secs_f64())
}

/// The kind of filesystem that a folder is on, where the system tells.
fn filesystem(folder: &Path) -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let around = mounts.filter(|(at, _)| folder.starts_with(at));
    // The last of those mounted at one place hides the others.
    around.max_by_key(|(at, _)| at.len()).map(|(_, kind)| kind.to_owned())
}

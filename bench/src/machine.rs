//! The disk and the databases, on which the numbers depend.

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

/// A database engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    /// The number of connections that mesh writes with; the reference has as many.
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

/// A database for one part of the benchmark.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) engine: Engine,
    pub(crate) url: String,
    /// The folder for other files of the process.
    pub(crate) folder: PathBuf,
}

impl Place {
    /// A connection with mesh's settings and durability, without mesh.
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

/// The upper bound: fsyncs a second of the disk. A write-ahead log grows until a checkpoint, and overwrites its pages
/// from then on, so there are two samples. A shared disk varies from minute to minute, so it is measured again between
/// the other parts.
#[derive(Default)]
pub(crate) struct Disk {
    over: Samples,
    behind: Samples,
}

impl Disk {
    pub(crate) fn add_to(&self, report: &mut Report) {
        report.machine("fsyncs/s of the disk, each behind a page written over another", &self.over);
        report.machine("fsyncs/s of the disk, each behind a page appended", &self.behind);
    }
}

/// The folder of the benchmark and its Postgres.
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
        // No mesh.toml of another project applies in this folder.
        std::env::set_current_dir(folder.path())?;
        Ok(Self { folder, postgres })
    }

    /// Creates a database. The inner error is the reason why there is none.
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

    /// The machine's description for the table.
    pub(crate) fn words(&self) -> String {
        let filesystem = filesystem(self.folder.path()).unwrap_or_else(|| "an unknown filesystem".to_owned());
        format!("{}, databases on {filesystem}.", processor())
    }
}

/// The machine's processor for the table.
pub(crate) fn processor() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let described = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = described.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    format!("{cores} cores of {model}, {os} on {arch}")
}

/// Flushes page after page: over the first `around` pages again and again, or at the end of a growing file.
fn fsyncs(path: &Path, around: Option<u32>, time: Duration) -> std::io::Result<f64> {
    let page = [1; 4096];
    let mut file = File::create(path)?;
    // The pages to overwrite must exist.
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

/// The filesystem of a folder; `None` without /proc.
fn filesystem(folder: &Path) -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let around = mounts.filter(|(at, _)| folder.starts_with(at));
    // The last mount at a path hides the others.
    around.max_by_key(|(at, _)| at.len()).map(|(_, kind)| kind.to_owned())
}

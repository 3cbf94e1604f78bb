//! A Postgres with default settings. The one of the tests does not flush.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _};
use tempfile::TempDir;

/// Starts Postgres, and stops it at the end of the shell's input, which comes when this program ends in any way.
const KEEPER: &str = r#""$0" "$@" & read -r _; kill -QUIT $!; wait"#;
/// Longer than a busy machine needs.
const LIMIT: Duration = Duration::from_secs(30);

/// A running Postgres server. It stops when this is dropped, or when the program ends.
pub(crate) struct Postgres {
    keeper: Child,
    port: u16,
    _folder: TempDir,
}

impl Postgres {
    /// Starts a server with its data in a new folder in `folder`.
    pub(crate) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let (initdb, postgres) = find("initdb").zip(find("postgres")).context("Postgres is not installed")?;
        let folder = tempfile::Builder::new().prefix("bench-postgres-").tempdir_in(folder)?;
        let data = folder.path().join("data");
        let init = as_nobody(&initdb, folder.path())?
            .arg("--pgdata")
            .arg(&data)
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .output()
            .context("initdb does not start")?;
        if !init.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&init.stderr).replace('\n', " "));
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let keeper = as_nobody(Path::new("/bin/sh"), folder.path())?
            .arg("-c")
            .arg(KEEPER)
            .arg(postgres)
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("Postgres does not start")?;
        let postgres = Self { keeper, port, _folder: folder };
        postgres.accepts().await?;
        Ok(postgres)
    }

    /// Creates an empty database and returns its URL.
    pub(crate) async fn database(&self, name: &str) -> anyhow::Result<String> {
        let mut connection = self.connect().await?;
        // The checkpoint keeps the cost of this out of the next measurement.
        for statement in [format!("CREATE DATABASE {name}"), "CHECKPOINT".to_owned()] {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
        }
        connection.close().await?;
        Ok(self.url(name))
    }

    async fn accepts(&self) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            match self.connect().await {
                Ok(connection) => return Ok(connection.close().await?),
                Err(error) if begin.elapsed() > LIMIT => return Err(error).context("Postgres accepts no connections"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn connect(&self) -> sqlx::Result<AnyConnection> {
        sqlx::any::install_default_drivers();
        AnyConnection::connect(&self.url("postgres")).await
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The end of its input stops the server, before its folder is removed.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Looks in `.tools/bin`, on PATH, and in the folders of distributions.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin");
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let versions = versions.map(|version| version.path().join("bin"));
    let homebrew = ["/opt/homebrew/opt/postgresql/bin", "/usr/local/opt/postgresql/bin"].map(PathBuf::from);
    let folders = std::iter::once(tools).chain(std::env::split_paths(&path)).chain(versions).chain(homebrew);
    folders.map(|folder| folder.join(program)).find(|program| program.is_file())
}

/// Postgres refuses to run as root. Where the benchmark runs as root, Postgres runs as `nobody`, which then owns
/// `folder`.
fn as_nobody(program: impl AsRef<OsStr>, folder: &Path) -> std::io::Result<Command> {
    let mut command = Command::new(program);
    command.current_dir(folder);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, chown};
        use std::os::unix::process::CommandExt as _;
        const NOBODY: u32 = 65534;
        if tempfile::tempfile()?.metadata()?.uid() == 0 {
            chown(folder, Some(NOBODY), Some(NOBODY))?;
            command.uid(NOBODY).gid(NOBODY);
        }
    }
    Ok(command)
}

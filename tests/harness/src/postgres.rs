//! A Postgres server for tests, from the installed binaries, in a temporary folder and on a free port. The tests of
//! `mesh` use this file, too.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::programs::{eventually, find_program, skip};
use super::sql::execute;

/// Postgres and PgBouncer refuse to run as root. Where the tests run as root, they run as `nobody`.
const NOBODY: u32 = 65534;

/// Starts Postgres, and stops it when it reads a line or the end of its input. The end means that the test process is
/// gone; then the shell deletes the data, too. So a server in a `static`, which is never dropped, leaves nothing
/// behind.
const KEEPER: &str = r#""$0" "$@" & read -r _ || gone=yes; kill -QUIT $!; wait; [ -z "$gone" ] || rm -rf "$FOLDER""#;

/// A running Postgres server. It stops when this is dropped, or when the test process ends.
pub struct Postgres {
    keeper: Child,
    port: u16,
    folder: TempDir,
}

impl Postgres {
    /// Starts a server. Without an installed Postgres it prints a note and returns `None`.
    pub fn start() -> Option<Self> {
        let Some(initdb) = find_program("initdb", &folders()) else {
            skip("Postgres", "`scripts/tools postgres` installs it");
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        hand_over(folder.path());
        let data = folder.path().join("data");
        let mut init = as_nobody(&initdb);
        init.arg("--pgdata").arg(&data).args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
        let init = init.args(["--no-sync", "--no-instructions"]).current_dir(folder.path()).output();
        let init = init.expect("initdb runs");
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));

        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let keeper = serve(&data, port);
        let postgres = Self { keeper, port, folder };
        postgres.accepts();
        Some(postgres)
    }

    /// One server for all tests that do not stop it. It ends with the test process.
    pub fn shared() -> Option<&'static Self> {
        static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
        SERVER.get_or_init(Self::start).as_ref()
    }

    /// Creates an empty database and returns its URL.
    pub fn database(&self, name: &str) -> String {
        execute(&self.url("postgres"), &format!("CREATE DATABASE {name}"));
        self.url(name)
    }

    /// The URL of a database.
    pub fn url(&self, name: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// Stops the server at once, as a crash would.
    pub fn stop(&mut self) {
        let word = self.keeper.stdin.take().map(|mut keeper| keeper.write_all(b"end\n"));
        assert!(matches!(word, Some(Ok(()))), "Postgres has a keeper: {word:?}");
        self.keeper.wait().expect("a child");
    }

    /// Starts the server again with its data.
    pub fn restart(&mut self) {
        self.keeper = serve(&self.folder.path().join("data"), self.port);
        self.accepts();
    }

    fn accepts(&self) {
        let ready = find_program("pg_isready", &folders()).expect("pg_isready comes with initdb");
        eventually("Postgres accepts connections", || {
            let mut ask = Command::new(&ready);
            let ask = ask.args(["--host=127.0.0.1", &format!("--port={}", self.port)]).stdout(Stdio::null()).status();
            ask.expect("pg_isready runs").success().then_some(())
        });
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.keeper.stdin.is_some() {
            self.stop();
        }
    }
}

fn serve(data: &Path, port: u16) -> Child {
    let log = std::fs::File::create(data.with_extension("log")).expect("a log");
    let mut keeper = as_nobody(Path::new("/bin/sh"));
    keeper.arg("-c").arg(KEEPER).env("FOLDER", data.parent().expect("a folder"));
    keeper.arg(find_program("postgres", &folders()).expect("postgres comes with initdb"));
    keeper.arg("-D").arg(data).arg("-p").arg(port.to_string()).args(["-c", "listen_addresses=127.0.0.1,::1"]);
    // No socket in a shared folder. No fsync, because these databases need not survive the machine. Many connections,
    // because many tests run at once, each with a pool or two.
    keeper.args(["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=500"]).current_dir(data);
    keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().expect("a shell starts")
}

/// Gives a folder to the user that [`as_nobody`] runs programs as.
pub(crate) fn hand_over(folder: &Path) {
    if root_runs_this() {
        std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY)).expect("root may do this");
    }
}

pub(crate) fn as_nobody(program: &Path) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(program);
    if root_runs_this() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn root_runs_this() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let mine = tempfile::tempfile().and_then(|file| file.metadata()).expect("a temporary file");
    mine.uid() == 0
}

/// The folders of distributions that are not on PATH.
fn folders() -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::from("/opt/homebrew/opt/postgresql/bin"), "/usr/local/opt/postgresql/bin".into()];
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    folders
}

//! One process of the system under test.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{LazyLock, Mutex, mpsc};
use std::time::Instant;

use tempfile::TempDir;
use tokio::net::TcpSocket;

use super::{Curl, Grpcurl, LIMIT, eventually, root};

/// The programs that users start, and the examples, by name. Built once: `cargo test` alone would leave stale or
/// missing ones. They are those of the default members: with the whole workspace, cargo would unify more features, and
/// compile every crate again.
static BINARIES: LazyLock<HashMap<String, PathBuf>> = LazyLock::new(|| build(&["--bins", "--examples"]));

/// The programs that only tests of mesh start.
static EXAMPLES: LazyLock<HashMap<String, PathBuf>> = LazyLock::new(|| build(&["--package=mesh", "--examples"]));

fn build(targets: &[&str]) -> HashMap<String, PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--message-format=json"]).args(targets).current_dir(root());
    forget_cargo(&mut cargo);
    let built = cargo.stderr(Stdio::inherit()).output().expect("cargo runs");
    assert!(built.status.success(), "the binaries do not build");
    let mut binaries = HashMap::new();
    for line in String::from_utf8(built.stdout).expect("cargo writes UTF-8").lines() {
        let message: serde_json::Value = serde_json::from_str(line).expect("cargo writes JSON");
        if let (Some(path), Some(name)) = (message["executable"].as_str(), message["target"]["name"].as_str()) {
            binaries.insert(name.to_owned(), path.into());
        }
    }
    binaries
}

/// Removes the variables that cargo set for this test. A cargo that the command runs would pass them on to build
/// scripts, which would run again and cause a rebuild.
pub fn forget_cargo(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text == "OUT_DIR" || text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
}

/// A binary of the workspace, with only the configuration that the test gives it.
pub fn command(binary: &str) -> Command {
    let path = BINARIES.get(binary).or_else(|| EXAMPLES.get(binary));
    let path = path
        .unwrap_or_else(|| panic!("no default member of the workspace has a binary `{binary}`, nor mesh an example"));
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        if ["MESH_", "OTEL_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    // A Consul that happens to run on this machine must not affect a test.
    command.env("MESH__REGISTRY", "local");
    // Without a balancer that must notice, a test does not wait for one.
    command.env("MESH__DRAIN_DELAY", "0s");
    command
}

/// Runs a binary that is expected to exit by itself, in an empty folder that `prepare` may fill.
pub fn output(binary: &str, arguments: &[&str], prepare: impl FnOnce(&Path)) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    prepare(folder.path());
    output_in(&folder, binary, arguments)
}

/// Like [`output`], in a folder that the caller keeps.
pub fn output_in(folder: &TempDir, binary: &str, arguments: &[&str]) -> Output {
    let mut child = command(binary);
    child.current_dir(folder.path());
    child.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().expect("the binary starts");
    // Without a limit, a process that serves instead of exiting would hang the test.
    let start = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if start.elapsed() > LIMIT {
            child.kill().expect("a child");
            panic!("{binary} {arguments:?} did not end");
        }
        super::programs::pause();
    }
    child.wait_with_output().expect("its output")
}

/// Lets a later version of a program open the databases of `command` first, and so migrate them. The variable
/// `HARNESS_MIGRATED_BY` names the folder of such programs: see scripts/previous.
fn migrate_by_a_later_version(command: &Command, binary: &str) {
    let later = std::env::var_os("HARNESS_MIGRATED_BY").map(|folder| Path::new(&folder).join(binary));
    let Some(later) = later.filter(|later| later.is_file()) else { return };
    let mut migrating = Command::new(later);
    migrating.envs(command.get_envs().filter_map(|(name, value)| value.map(|value| (name, value))));
    migrating.current_dir(command.get_current_dir().expect("a folder")).env("MESH__REGISTRY", "local");
    let migrating = migrating.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut migrating = migrating.expect("the later version starts");
    let stdout = migrating.stdout.take().expect("its output");
    // It serves after it has migrated. If it cannot start, neither can the program under test.
    let _ = BufReader::new(stdout).lines().next();
    let _ = Command::new("kill").args(["-INT", &migrating.id().to_string()]).status();
    let _ = migrating.wait();
}

/// What a process prints.
struct Printed {
    /// Lines that came before that of its address.
    earlier: Vec<String>,
    later: mpsc::Receiver<String>,
}

/// The address that a process prints behind `name`; `None` if it ends before that, or prints nothing more in time.
fn address_of(name: &str, child: &mut Child) -> Option<(SocketAddr, Printed)> {
    let (sender, later) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().expect("its output"));
    // This thread reads to the end, so that the process never finds its output closed.
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    let mut earlier = Vec::new();
    loop {
        let line = later.recv_timeout(LIMIT).ok()?;
        match line.split_once(" listening on ").filter(|(who, _)| *who == name) {
            Some((_, address)) => return Some((address.parse().expect("an address"), Printed { earlier, later })),
            None => earlier.push(line),
        }
    }
}

/// The addresses of killed processes.
static HELD: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());

/// Keeps an address from processes that ask for any free port: a test may take it for one where nothing listens, or start
/// another process there. On Linux, a socket that does not listen is in the way of neither.
fn hold(address: SocketAddr) {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let held = socket.and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind(address).map(|()| socket)
    });
    if cfg!(target_os = "linux")
        && let Ok(socket) = held
    {
        HELD.lock().expect("no test panics with it").push(socket);
    }
}

/// A running process. It is killed when this is dropped.
pub struct Process {
    child: Child,
    /// The address it listens on.
    pub address: SocketAddr,
    printed: Mutex<Printed>,
    /// Its working directory, with its data and its log.
    pub folder: TempDir,
}

impl Process {
    /// Starts a binary on a free port, in an empty folder.
    pub fn start(binary: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder"), binary, environment)
    }

    /// Starts a binary on a free port, in the folder of an earlier process.
    pub fn start_in(folder: TempDir, binary: &str, environment: &[(&str, &str)]) -> Self {
        Self::spawn(command(binary), folder, binary, environment)
    }

    /// Starts a binary under a program that traces it, such as strace.
    pub fn start_under(onlooker: Command, binary: &str) -> Self {
        Self::start_under_with(onlooker, binary, &[])
    }

    /// Like [`start_under`](Self::start_under), with more of a configuration.
    pub fn start_under_with(mut onlooker: Command, binary: &str, environment: &[(&str, &str)]) -> Self {
        let command = command(binary);
        onlooker.arg(command.get_program());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => onlooker.env(name, value),
                None => onlooker.env_remove(name),
            };
        }
        Self::spawn(onlooker, tempfile::tempdir().expect("a temporary folder"), binary, environment)
    }

    /// Starts a sidecar on free ports as `service`, whose app is a command of a shell with `$SIDECAR_APP` and
    /// `$SIDECAR_OUTBOUND`, or one that runs already. What the command prints is in the file `app`.
    pub fn start_sidecar(service: &str, environment: &[(&str, &str)], app: Option<&str>) -> Self {
        let mut command = command("sidecar");
        command.env("MESH__SIDECAR__SERVICE", service).env("MESH__SIDECAR__OUTBOUND", "127.0.0.1:0");
        // The command leads a process group. A sidecar that is killed leaves it alone, but for its standard input.
        let ends = "exec 3<&0 >app; { cat <&3 >/dev/null; kill -KILL -$$; } & exec 3<&-";
        let app = app.map(|app| format!("{ends}\n{app}"));
        command.args(app.iter().flat_map(|app| ["--", "sh", "-c", app]));
        Self::spawn(command, tempfile::tempdir().expect("a temporary folder"), service, environment)
    }

    /// Starts a command in a folder, and waits until it prints the address that `binary` listens on.
    pub fn spawn(mut command: Command, folder: TempDir, binary: &str, environment: &[(&str, &str)]) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(folder.path().join("log")).expect("a log");
        command.current_dir(folder.path());
        command.env("MESH__LISTEN", "127.0.0.1:0").envs(environment.iter().copied());
        migrate_by_a_later_version(&command, binary);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let start = Instant::now();
        let (child, (address, printed)) = loop {
            let mut child = command.spawn().expect("the binary starts");
            if let Some(printed) = address_of(binary, &mut child) {
                break (child, printed);
            }
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            // Between two processes at one address, the connection of another test may have got its port for a moment.
            let taken = log.lines().last().is_some_and(|line| line.contains("another process listens there"));
            assert!(
                taken && start.elapsed() < LIMIT,
                "{binary} does not print the address it listens on; its log:\n{log}"
            );
            let _ = child.wait();
            super::programs::pause();
        };
        Self { child, address, printed: Mutex::new(printed), folder }
    }

    /// The address of another listener, such as `edge`. It is read once.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let Printed { earlier, later } = &mut *self.printed.lock().expect("no test panicked with it");
        let listening = format!(" {name} listening on ");
        let mut lines =
            std::mem::take(earlier).into_iter().chain(std::iter::from_fn(|| later.recv_timeout(LIMIT).ok()));
        let address = lines.find_map(|line| Some(line.split_once(&listening)?.1.to_owned()));
        address.expect("a listener").trim_start_matches("https://").parse().expect("an address")
    }

    /// What it prints behind the addresses of its listeners, line by line: so many blocks, each with a blank line
    /// behind it. It is read once.
    pub fn printed(&self, blocks: usize) -> Vec<String> {
        let Printed { later, .. } = &*self.printed.lock().expect("no test panicked with it");
        let mut lines = Vec::new();
        // A blank line is also before the first one.
        while lines.iter().filter(|line: &&String| line.is_empty()).count() <= blocks {
            lines.push(later.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("fewer blocks: {lines:?}")));
        }
        lines
    }

    /// curl for this process.
    pub fn curl(&self) -> Curl {
        Curl::to(self.address)
    }

    /// grpcurl for this process.
    pub fn grpcurl(&self) -> Grpcurl {
        Grpcurl::to(self.address)
    }

    /// Everything it has written to standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends one HTTP/1.1 request and returns the whole answer, head and body.
    pub fn http(&self, path: &str) -> String {
        self.http_with(path, "")
    }

    /// Like [`http`](Self::http), with more headers, each with its line end.
    pub fn http_with(&self, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    /// Sends a signal by name: `TERM`, `INT`, `KILL`.
    pub fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(kill.expect("kill runs").success());
        // A process stops a moment after the signal was sent. Without /proc there is nothing to wait for.
        if name == "STOP" {
            eventually("the process stands still", || {
                let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
                let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
                matches!(state, None | Some(Some('T'))).then_some(())
            });
        }
    }

    /// Its working directory as it sees it, with the file systems of its own mount namespace.
    #[cfg(target_os = "linux")]
    pub fn working_folder(&self) -> PathBuf {
        format!("/proc/{}/cwd", self.child.id()).into()
    }

    /// The CPU time it has used, in Linux's ticks of 10 ms.
    #[cfg(target_os = "linux")]
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        // The second word is the program's name in parentheses, which may contain spaces.
        let (_, rest) = stat.rsplit_once(") ").expect("a name");
        let words: Vec<_> = rest.split(' ').collect();
        words[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a count")).sum()
    }

    /// Whether it is still running.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Waits until it exits; returns its exit status and how long that took.
    pub fn ended(&mut self) -> (ExitStatus, std::time::Duration) {
        let start = Instant::now();
        let status = eventually("the process ends", || self.child.try_wait().expect("a child"));
        (status, start.elapsed())
    }

    /// Kills it without warning and returns its folder.
    pub fn kill(mut self) -> TempDir {
        self.signal("KILL");
        self.ended();
        hold(self.address);
        self.folder_left()
    }

    /// Takes the folder of a process that has exited.
    pub fn folder_left(&mut self) -> TempDir {
        let empty = tempfile::tempdir().expect("a temporary folder");
        std::mem::replace(&mut self.folder, empty)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            // Its folder may be gone, and a second panic would end the whole run.
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("--- log of process {}\n{log}", self.child.id());
        }
    }
}

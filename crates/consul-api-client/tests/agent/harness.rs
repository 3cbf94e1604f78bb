//! Starts and stops agents for the tests.

use std::cell::Cell;
use std::future::Future;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use consul_api_client::health::Query;
use consul_api_client::{Blocking, Client};
use tempfile::TempDir;

/// Time limit of every condition; generous, for a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A running agent. Drop kills it.
pub(crate) struct Agent {
    child: Child,
    program: PathBuf,
    pub(crate) url: String,
    pub(crate) folder: TempDir,
}

impl Agent {
    /// Starts an agent and waits for its leader. Prints a message and returns `None` if Consul is not installed.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with("", None).await
    }

    /// As `start`, with additional configuration and a token that may read the agent's node.
    pub(crate) async fn start_with(settings: &str, token: Option<&str>) -> Option<Self> {
        let program = find_consul()?;
        // Another process may take a free port before the agent binds it.
        for _ in 0..5 {
            let [http, serf, server] = free_ports();
            let ports = format!(r#""http":{http},"serf_lan":{serf},"server":{server}"#);
            let folder = tempfile::tempdir().unwrap();
            let mut agent = Self::launch(&program, folder, &ports, settings, format!("http://127.0.0.1:{http}"));
            if agent.ready(token).await {
                return Some(agent);
            }
        }
        panic!("the agent did not start");
    }

    pub(crate) fn launch(program: &Path, folder: TempDir, ports: &str, settings: &str, url: String) -> Self {
        let more = if has_grpc_over_tls(program) { r#""grpc_tls":-1,"# } else { "" };
        let ports = format!(r#""ports":{{"grpc":-1,"dns":-1,"serf_wan":-1,{more}{ports}}}"#);
        let config = format!(r#"{{{ports},"disable_update_check":true,"bind_addr":"127.0.0.1"{settings}}}"#);
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let child = spawn(program, &folder);
        Self { child, program: program.to_owned(), url, folder }
    }

    /// Waits until the agent has a leader and lists itself as passing. Returns `false` if the process ends first.
    async fn ready(&mut self, token: Option<&str>) -> bool {
        let mut builder = Client::builder(&self.url);
        if let Some(token) = token {
            builder = builder.token(token);
        }
        let client = builder.build().unwrap();
        let start = Instant::now();
        while start.elapsed() < LIMIT && self.child.try_wait().unwrap().is_none() {
            // Sessions need the node's check, which appears after the leader.
            let leader = client.status().leader().await.ok().flatten().is_some();
            let consul = Query::service("consul").passing();
            if leader && client.health().instances(&consul, None).await.is_ok_and(|found| !found.value.is_empty()) {
                return true;
            }
            pause().await;
        }
        false
    }

    /// Runs a command of Consul with this agent, such as `intention create`.
    pub(crate) fn consul(&self, arguments: &[&str]) {
        let mut command = Command::new(&self.program);
        let done = command.args(arguments).env("CONSUL_HTTP_ADDR", &self.url).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url).unwrap()
    }

    /// Kills the process with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts the process again on the same ports.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.program, &self.folder);
    }

    /// Sends a signal by name, such as `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }
}

fn spawn(program: &Path, folder: &TempDir) -> Child {
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut command = Command::new(program);
    command.args(["agent", "-dev", "-config-file", "config.json"]).current_dir(folder.path());
    command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null()).spawn().expect("consul starts")
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default());
        }
    }
}

/// Whether agents open the port `grpc_tls`: since 1.14. It must be off, or parallel tests collide. Older versions
/// reject the setting.
fn has_grpc_over_tls(program: &Path) -> bool {
    let output = Command::new(program).arg("version").output().expect("Consul runs").stdout;
    let output = String::from_utf8_lossy(&output);
    let version = output.lines().next().and_then(|line| line.strip_prefix("Consul v")).expect("a version");
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    (parts.next(), parts.next()) >= (Some(1), Some(14))
}

/// Returns three distinct free ports.
pub(crate) fn free_ports() -> [u16; 3] {
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// Looks in `.tools/bin` of every parent folder, then on PATH.
pub(crate) fn find_consul() -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join(".tools/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = above.chain(std::env::split_paths(&path)).map(|folder| folder.join("consul")).find(|at| at.is_file());
    if found.is_none() {
        let message = "SKIPPED: Consul is not installed; run `scripts/tools consul`";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
        // The test runner captures the output of `eprintln!`.
        let _ = writeln!(std::io::stderr(), "{message}");
    }
    found
}

/// Waits until a service has `count` instances and a stable index, and returns the index. An agent updates its own
/// entries during its first second.
pub(crate) async fn settled(client: &Client, query: &Query, count: usize) -> u64 {
    let index = Cell::new(0);
    eventually("the index is stable", async || {
        let blocking = Blocking { index: index.get(), wait: Duration::from_millis(700) };
        let found = client.health().instances(query, blocking).await.unwrap();
        let before = index.replace(found.next(index.get()));
        (found.value.len() == count && found.index == before).then_some(before)
    })
    .await
}

/// Polls `ask` until it returns a value. Panics after `LIMIT`.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < LIMIT, "timed out after {LIMIT:?}: {what}");
        pause().await;
    }
}

/// The interval of polls: other processes offer no event to wait for.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

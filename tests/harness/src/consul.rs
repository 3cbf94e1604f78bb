//! A Consul agent that a test starts and stops.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{LIMIT, eventually, find_program, skip};

/// A running agent in development mode: it keeps no data over a restart. It is killed when this is dropped.
pub struct Consul {
    child: Child,
    /// The address of its HTTP API.
    pub address: SocketAddr,
    /// Its ports: HTTP, Serf, RPC between servers.
    pub ports: [u16; 3],
    folder: TempDir,
    token: Option<String>,
}

impl Consul {
    /// Starts an agent and waits until it has a leader. Without an installed Consul it prints a note and returns
    /// `None`.
    pub fn start() -> Option<Self> {
        Self::start_with(json!({}), None)
    }

    /// Like [`start`](Self::start), with more settings of the agent, and with the token that the test sends.
    pub fn start_with(settings: Value, token: Option<&str>) -> Option<Self> {
        if find_program("consul", &[]).is_none() {
            skip("Consul", "`scripts/tools consul` installs it");
            return None;
        }
        // Another process may take a free port before the agent binds it.
        (0..5).find_map(|_| Self::start_at(free_ports(), &settings, token)).or_else(|| panic!("no agent starts"))
    }

    /// Starts an agent on given ports, for tests whose processes look for it before it runs.
    pub fn start_at(given: [u16; 3], settings: &Value, token: Option<&str>) -> Option<Self> {
        let [http, serf, server] = given;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut ports =
            json!({"http": http, "grpc": -1, "dns": -1, "serf_lan": serf, "serf_wan": -1, "server": server});
        if has_grpc_over_tls(&find_program("consul", &[]).expect("Consul")) {
            ports["grpc_tls"] = (-1).into();
        }
        let mut config = json!({"ports": ports, "disable_update_check": true, "bind_addr": "127.0.0.1"});
        for (key, value) in settings.as_object().expect("settings") {
            config[key] = value.clone();
        }
        std::fs::write(folder.path().join("config.json"), config.to_string()).expect("a file");
        let address = SocketAddr::from(([127, 0, 0, 1], http));
        let mut agent = Self { child: spawn(&folder), address, ports: given, folder, token: token.map(str::to_owned) };
        agent.has_leader().then_some(agent)
    }

    /// Waits until the agent has a leader; `false` if the agent exits instead.
    fn has_leader(&mut self) -> bool {
        eventually("Consul has a leader", || {
            if self.child.try_wait().expect("a child").is_some() {
                return Some(false);
            }
            self.try_get("/v1/status/leader").is_some_and(|leader| leader != "").then_some(true)
        })
    }

    /// The value of the configuration key `registry` for this agent.
    pub fn registry(&self) -> String {
        format!("consul://{}", self.address)
    }

    /// The JSON that a GET of `path` returns. Panics if Consul refuses or does not answer.
    pub fn get(&self, path: &str) -> Value {
        self.try_get(path).unwrap_or_else(|| panic!("Consul does not answer to {path}"))
    }

    /// The `X-Consul-Index` that a GET of `path` returns.
    pub fn index(&self, path: &str) -> u64 {
        let (_, head, _) = self.request("GET", path, "").expect("Consul answers");
        let index = head.lines().find_map(|line| line.strip_prefix("X-Consul-Index: "));
        index.and_then(|index| index.trim().parse().ok()).unwrap_or_else(|| panic!("no index: {head}"))
    }

    fn try_get(&self, path: &str) -> Option<Value> {
        let (status, _, body) = self.request("GET", path, "")?;
        (status == 200).then(|| serde_json::from_str(&body).expect("Consul writes JSON"))
    }

    /// Sends a PUT and returns the answer. Panics if Consul refuses or does not answer.
    pub fn put(&self, path: &str, body: &Value) -> Value {
        self.try_put(path, body).unwrap_or_else(|| panic!("Consul refuses {path}"))
    }

    /// Sends a PUT; `None` if Consul refuses or does not answer.
    pub fn try_put(&self, path: &str, body: &Value) -> Option<Value> {
        let (status, _, answer) = self.request("PUT", path, &body.to_string())?;
        (status == 200).then(|| serde_json::from_str(&answer).unwrap_or_default())
    }

    /// All instances of a service, healthy or not.
    pub fn instances(&self, service: &str) -> Vec<Value> {
        self.get(&format!("/v1/health/service/{service}")).as_array().expect("a list").clone()
    }

    /// Waits until exactly `count` instances of a service pass, and returns them.
    pub fn passing(&self, service: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} of {service} pass"), || {
            let passing = self.try_get(&format!("/v1/health/service/{service}?passing"))?;
            passing.as_array().filter(|passing| passing.len() == count).cloned()
        })
    }

    /// Sends a request in HTTP/1.0, whose answers have no chunks. Returns the status, the head and the body; `None` if
    /// no agent answers.
    fn request(&self, method: &str, path: &str, body: &str) -> Option<(u16, String, String)> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        let token = self.token.as_ref().map(|token| format!("x-consul-token: {token}\r\n")).unwrap_or_default();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.0\r\nhost: test\r\n{token}content-length: {length}\r\n\r\n{body}");
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, head.to_owned(), body.to_owned()))
    }

    /// Registers a service from a file by `consul services register`.
    pub fn register_file(&self, file: &Path) {
        self.run(&["services", "register", file.to_str().expect("UTF-8")]);
    }

    /// Runs a command of Consul for this agent, such as `intention create`, with the token of the test.
    pub fn run(&self, arguments: &[&str]) {
        let mut command = Command::new(find_program("consul", &[]).expect("Consul"));
        command.args(arguments).env("CONSUL_HTTP_ADDR", self.address.to_string());
        command.envs(self.token.iter().map(|token| ("CONSUL_HTTP_TOKEN", token)));
        let output = command.output().expect("Consul runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Kills the agent without warning.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child");
        self.child.wait().expect("a child");
    }

    /// Starts the agent again on the same ports, with the same settings.
    pub fn restart(&mut self) {
        self.child = spawn(&self.folder);
        assert!(self.has_leader(), "the agent does not start again");
    }

    /// Sends a signal by name: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(kill.expect("kill runs").success());
    }
}

fn spawn(folder: &TempDir) -> Child {
    let log = std::fs::File::create(folder.path().join("log")).expect("a log");
    let mut command = Command::new(find_program("consul", &[]).expect("Consul"));
    command.args(["agent", "-dev", "-config-file", "config.json"]).current_dir(folder.path());
    command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null()).spawn().expect("Consul starts")
}

/// Agents from 1.14 on open a port for gRPC over TLS, which would be the same for the agents of several tests. Agents
/// before 1.14 refuse the setting that closes it.
fn has_grpc_over_tls(program: &Path) -> bool {
    let printed = Command::new(program).arg("version").output().expect("Consul runs").stdout;
    let printed = String::from_utf8_lossy(&printed);
    let version = printed.lines().next().and_then(|line| line.strip_prefix("Consul v")).expect("a version");
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    (parts.next(), parts.next()) >= (Some(1), Some(14))
}

/// Three ports that are free and differ.
fn free_ports() -> [u16; 3] {
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    held.map(|listener| listener.local_addr().expect("an address").port())
}

impl Drop for Consul {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

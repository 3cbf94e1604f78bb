//! Calls by grpcurl, as users make them.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use super::{find_program, skip};

/// grpcurl for one address.
pub struct Grpcurl {
    address: SocketAddr,
    /// How it reaches the server, and the headers of each call.
    flags: Vec<String>,
}

/// The result of a grpcurl run.
#[derive(Debug)]
pub struct Answer {
    stdout: String,
    stderr: String,
    ok: bool,
}

impl Grpcurl {
    /// Whether grpcurl is installed; prints a note if it is not.
    pub fn installed() -> bool {
        let installed = find_program("grpcurl", &[]).is_some();
        if !installed {
            skip("grpcurl", "`scripts/tools grpcurl` installs it");
        }
        installed
    }

    /// grpcurl for a server at this address.
    pub fn to(address: SocketAddr) -> Self {
        Self { address, flags: vec!["-plaintext".to_owned()] }
    }

    /// grpcurl for a server with mutual TLS, with the files of a certificate and the token of a user.
    pub fn secured(address: SocketAddr, certificate: &Path, key: &Path, token: &str) -> Self {
        let [certificate, key] = [certificate, key].map(|file| file.display().to_string());
        let header = format!("authorization: Bearer {token}");
        // Certificates of a mesh have no name of a host.
        let flags = ["-insecure", "-cert", &certificate, "-key", &key, "-rpc-header", &header];
        Self { address, flags: flags.map(str::to_owned).to_vec() }
    }

    /// grpcurl with `flags` in front of the address and `rest` behind it.
    fn command(&self, flags: &[&str], rest: &[&str]) -> Command {
        let mut command = Command::new(find_program("grpcurl", &[]).expect("grpcurl"));
        command.args(&self.flags).args(["-max-time", "30"]).args(flags).arg(self.address.to_string()).args(rest);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs grpcurl with `flags` in front of the address and `rest` behind it.
    pub fn run(&self, flags: &[&str], rest: &[&str]) -> Answer {
        self.command(flags, rest).output().expect("grpcurl runs").into()
    }

    /// Calls `method` with a request as JSON.
    pub fn call(&self, method: &str, request: &Value) -> Answer {
        self.run(&["-d", &request.to_string()], &[method])
    }

    /// Like [`call`](Self::call), with the request on standard input, for a request that is too long for a command
    /// line.
    pub fn call_with_input(&self, method: &str, request: &Value) -> Answer {
        let mut child = self.command(&["-d", "@"], &[method]).stdin(Stdio::piped()).spawn().expect("grpcurl runs");
        let mut stdin = child.stdin.take().expect("its input");
        stdin.write_all(request.to_string().as_bytes()).expect("it reads");
        drop(stdin);
        child.wait_with_output().expect("grpcurl runs").into()
    }

    /// Starts a call that stays open.
    pub fn open(&self, method: &str) -> Child {
        self.command(&[], &[method]).spawn().expect("grpcurl runs")
    }

    /// Like [`open`](Self::open), with a request.
    pub fn open_with(&self, method: &str, request: &Value) -> Child {
        self.command(&["-d", &request.to_string()], &[method]).spawn().expect("grpcurl runs")
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
            ok: output.status.success(),
        }
    }
}

impl Answer {
    /// The output of a call that succeeded.
    pub fn text(self) -> String {
        assert!(self.ok, "{self:?}");
        self.stdout
    }

    /// The response of a call that succeeded, as JSON.
    pub fn json(self) -> Value {
        serde_json::from_str(&self.text()).expect("JSON")
    }

    /// Whether the call failed.
    pub fn failed(&self) -> bool {
        !self.ok
    }

    /// The code and the reason of a call that failed.
    pub fn failure(&self) -> (String, String) {
        assert!(!self.ok, "{self:?}");
        (self.after("Code: "), self.detail("google.rpc.ErrorInfo")["reason"].as_str().unwrap_or_default().to_owned())
    }

    /// The error detail of the given type, of a call that failed.
    pub fn detail(&self, message: &str) -> Value {
        let details = self.stderr.lines().filter_map(|line| line.split_once('\t'));
        let mut details = details.filter_map(|(_, json)| serde_json::from_str::<Value>(json).ok());
        details.find(|detail| detail["@type"].as_str().is_some_and(|url| url.ends_with(message))).unwrap_or_default()
    }

    fn after(&self, label: &str) -> String {
        let found = self.stderr.lines().find_map(|line| line.trim().strip_prefix(label));
        found.unwrap_or_else(|| panic!("no `{label}` in {}", self.stderr)).to_owned()
    }

    /// The message of a call that failed.
    pub fn message(&self) -> String {
        self.after("Message: ")
    }
}

//! HTTP requests by curl, as users make them.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{find_program, skip};

/// curl for one address.
pub struct Curl {
    address: SocketAddr,
    /// The certificate of the server, if it speaks TLS.
    trusted: Option<PathBuf>,
    /// The header with the token of a user.
    authorization: Option<String>,
}

/// The answer to a request.
#[derive(Debug)]
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// The lines of the head.
    head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Curl {
    /// Whether curl is installed; prints a note if it is not.
    pub fn installed() -> bool {
        let installed = find_program("curl", &[]).is_some();
        if !installed {
            skip("curl", "the package manager of the system has it");
        }
        installed
    }

    /// curl for a server at this address.
    pub fn to(address: SocketAddr) -> Self {
        Self { address, trusted: None, authorization: None }
    }

    /// curl for a server that speaks TLS with this certificate.
    pub fn trusting(address: SocketAddr, certificate: &Path) -> Self {
        Self { address, trusted: Some(certificate.to_owned()), authorization: None }
    }

    /// Sends the token of a user with each request.
    pub fn with_token(self, token: &str) -> Self {
        Self { authorization: Some(format!("Authorization: Bearer {token}")), ..self }
    }

    fn command(&self, path: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(find_program("curl", &[]).expect("curl"));
        command.args(["--silent", "--show-error", "--path-as-is", "--globoff", "--max-time", "30"]);
        let scheme = match &self.trusted {
            Some(certificate) => {
                command.arg("--cacert").arg(certificate);
                "https"
            }
            None => "http",
        };
        if let Some(authorization) = &self.authorization {
            command.args(["--header", authorization]);
        }
        command.args(arguments).arg(format!("{scheme}://{}{path}", self.address));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Whether the server can be reached at all, and curl trusts it.
    pub fn connects(&self) -> bool {
        self.command("/", &[]).status().expect("curl runs").success()
    }

    /// Requests `path` with more arguments, and `input` on standard input.
    pub fn send(&self, path: &str, arguments: &[&str], input: &[u8]) -> Page {
        let mut child = self.command(path, &[&["--include"], arguments].concat()).spawn().expect("curl runs");
        // curl may end before it has read all: the server refused.
        let _ = child.stdin.take().expect("stdin").write_all(input);
        let output = child.wait_with_output().expect("curl ends");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.stdout.is_empty(), "{path}: {error}");
        Page::of(&output.stdout)
    }

    /// Gets `path`.
    pub fn get(&self, path: &str) -> Page {
        self.send(path, &[], b"")
    }

    /// Sends JSON to `path`.
    pub fn json(&self, method: &str, path: &str, json: &Value) -> Page {
        self.text(method, path, &json.to_string())
    }

    /// Sends a text as JSON to `path`.
    pub fn text(&self, method: &str, path: &str, json: &str) -> Page {
        let arguments = ["--request", method, "--header", "Content-Type: application/json", "--data-binary", "@-"];
        self.send(path, &arguments, json.as_bytes())
    }

    /// Opens a stream, whose body is on the child's standard output.
    pub fn open(&self, path: &str, arguments: &[&str]) -> Child {
        self.command(path, &[&["--no-buffer"], arguments].concat()).spawn().expect("curl runs")
    }
}

impl Page {
    fn of(output: &[u8]) -> Self {
        let (head, body) = split(output).unwrap_or_else(|| panic!("no head: {}", String::from_utf8_lossy(output)));
        let text = String::from_utf8_lossy(head).into_owned();
        // Before the answer to a large request stands `100 Continue`.
        if text.contains(" 100 ") {
            return Self::of(body);
        }
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Self { status, head: text, body: body.to_vec() }
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The protocol, such as `HTTP/2`.
    pub fn protocol(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn split(output: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = output.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((&output[..end], &output[end + 4..]))
}

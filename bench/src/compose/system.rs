//! The programs of the example `film`, as this program's build has left them beside it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// In this order: a service finds those before it.
const SERVICES: [&str; 7] = ["catalog", "artwork", "billing", "library", "mobile", "tv", "gateway"];
/// A picture of one pixel.
const PICTURE: &[u8] = &[
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0, 1, 8, 0,
    0, 0, 0, 0x3a, 0x7e, 0x9b, 0x55, 0, 0, 0, 10, b'I', b'D', b'A', b'T', 0x78, 0x9c, 0x63, 0x60, 0, 0, 0, 2, 0, 1,
    0x48, 0xaf, 0xa4, 0x71, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];

/// A running system. Its processes are killed when this is dropped.
pub(super) struct System {
    programs: Vec<Program>,
    folder: TempDir,
    /// The address for clients.
    pub(super) edge: SocketAddr,
}

struct Program {
    name: &'static str,
    child: Child,
    address: SocketAddr,
}

impl System {
    /// All services in one process.
    pub(super) async fn together() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let program = Program::start("monolith", folder.path(), &[])?;
        Ok(Self { edge: program.address, programs: vec![program], folder })
    }

    /// Each service in a process of its own, and a gateway.
    pub(super) async fn apart() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut programs = Vec::new();
        for name in SERVICES {
            let program = Program::start(name, folder.path(), &programs)?;
            programs.push(program);
        }
        let edge = programs.last().context("no gateway")?.address;
        Ok(Self { programs, folder, edge })
    }

    /// The ids of its processes.
    pub(super) fn processes(&self) -> impl Iterator<Item = u32> {
        self.programs.iter().map(|program| program.child.id())
    }

    /// The file of a service's database.
    pub(super) fn database(&self, service: &str) -> PathBuf {
        self.folder.path().join(format!("data/{service}.db"))
    }

    /// Adds titles with a picture each.
    pub(super) async fn fill(&self, titles: usize) -> anyhow::Result<()> {
        for number in 0..titles {
            let year = 1920 + number;
            let synopsis = "A city above, and a city below. ".repeat(4);
            let title = json!({"name": format!("Metropolis {number}"), "synopsis": synopsis, "year": year, "priceCents": "399"});
            let title = self.post("/v1/titles", "application/json", title.to_string().into()).await?;
            let id = title["titleId"].as_str().context("no id")?;
            let path = format!("/v1/titles/{id}/artwork:upload");
            let started = self.post(&path, "image/png", Bytes::from_static(PICTURE)).await?;
            let name = started["name"].as_str().context("no operation")?;
            let done = self.send(Request::get(format!("/v1/{name}:wait?timeout=30s")), Bytes::new()).await?;
            ensure!(done["done"] == true && done.get("error").is_none(), "a picture was not rendered: {done}");
        }
        Ok(())
    }

    async fn post(&self, path: &str, media_type: &str, body: Bytes) -> anyhow::Result<Value> {
        let key = uuid::Uuid::new_v4().to_string();
        let request = Request::post(path).header("content-type", media_type).header("idempotency-key", key);
        self.send(request, body).await
    }

    async fn send(&self, request: http::request::Builder, body: Bytes) -> anyhow::Result<Value> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(TcpStream::connect(self.edge).await?)).await?;
        tokio::spawn(connection);
        let answer = sender.send_request(request.header("host", "localhost").body(Full::new(body))?).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }
}

impl Program {
    fn start(name: &'static str, folder: &Path, peers: &[Self]) -> anyhow::Result<Self> {
        let path = std::env::current_exe()?.with_file_name(name);
        let build =
            "run `cargo build --profile bench-run --workspace --bins` first, in a project with the example `film`";
        ensure!(path.exists(), "there is no {}: {build}", path.display());
        let mut command = Command::new(path);
        command.arg("--listen=127.0.0.1:0").arg("--set=log.level=warn").current_dir(folder);
        command.arg(if peers.is_empty() { "--set=registry=local" } else { "--set=registry=static" });
        for peer in peers {
            command.arg(format!("--set=static.{}={}", peer.name, peer.address));
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = child.stdout.take().context("a child has an output")?;
        let mut program = Self { name, child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let mut line = String::new();
        let mut stdout = BufReader::new(stdout);
        stdout.read_line(&mut line)?;
        let address = line.rsplit(' ').next().unwrap_or_default().trim();
        program.address = address.parse().with_context(|| format!("{name} did not start: {line}"))?;
        // The process never finds its output closed.
        std::thread::spawn(move || stdout.lines().for_each(drop));
        Ok(program)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Its data is temporary.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! Envoy, the reference for what stands in front of a service.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// Longer than a busy machine needs.
const LIMIT: Duration = Duration::from_secs(30);

/// A running Envoy. It is killed when this is dropped.
pub(crate) struct Envoy {
    child: Child,
    pub(crate) address: SocketAddr,
    _folder: TempDir,
}

impl Envoy {
    /// Starts Envoy with this many workers, and with the configuration that `bootstrap` makes for the address of its
    /// listener and a folder for files.
    ///
    /// # Errors
    ///
    /// If it is not installed, or does not start.
    pub(crate) async fn start(
        workers: usize,
        bootstrap: impl FnOnce(SocketAddr, &Path) -> anyhow::Result<Value>,
    ) -> anyhow::Result<Self> {
        // The port is free again when the listener is dropped, and nobody else takes it within a second.
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let folder = tempfile::tempdir()?;
        let [config, log] = ["envoy.json", "log"].map(|name| folder.path().join(name));
        std::fs::write(&config, bootstrap(address, folder.path())?.to_string())?;
        let child = Command::new(program()?)
            .arg("--config-path")
            .arg(config)
            .args(["--disable-hot-restart", "--log-level", "warning", "--concurrency", &workers.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .context("Envoy does not start")?;
        let mut envoy = Self { child, address, _folder: folder };
        let begin = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            if begin.elapsed() > LIMIT || envoy.child.try_wait()?.is_some() {
                bail!("Envoy does not start: {}", std::fs::read_to_string(&log)?.replace('\n', " "));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(envoy)
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program that `scripts/tools envoy` installs.
fn program() -> anyhow::Result<std::path::PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin/envoy");
    installed.canonicalize().context("Envoy is not installed: scripts/tools envoy installs it")
}

/// An address in Envoy's configuration.
pub(crate) fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// The options of a cluster that speaks HTTP/2.
pub(crate) fn http2() -> Value {
    json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }})
}

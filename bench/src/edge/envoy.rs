//! Envoy with its transcoder between JSON and gRPC, in front of the service.

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
pub(super) struct Envoy {
    child: Child,
    pub(super) address: SocketAddr,
    _folder: TempDir,
}

impl Envoy {
    /// Starts Envoy in front of `service`.
    ///
    /// # Errors
    ///
    /// If it is not installed, or does not start.
    pub(super) async fn start(service: SocketAddr) -> anyhow::Result<Self> {
        // The port is free again when the listener is dropped, and nobody else takes it within a second.
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let folder = tempfile::tempdir()?;
        let [contracts, config, log] = ["contracts", "envoy.json", "log"].map(|name| folder.path().join(name));
        std::fs::write(&contracts, mesh_proto::FILE_DESCRIPTOR_SET)?;
        std::fs::write(&config, bootstrap(address, service, &contracts).to_string())?;
        let cores = std::thread::available_parallelism()?.to_string();
        let child = Command::new(program()?)
            .arg("--config-path")
            .arg(config)
            .args(["--disable-hot-restart", "--log-level", "warning", "--concurrency", &cores])
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
    pub(super) fn id(&self) -> u32 {
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

/// A listener for HTTP/1.1 that transcodes for one cluster. It prints what the edge prints, so that the answers are
/// equal.
fn bootstrap(address: SocketAddr, service: SocketAddr, contracts: &Path) -> Value {
    let socket = |address: SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let transcoder = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        "proto_descriptor": contracts,
        "services": ["google.longrunning.Operations"],
        "print_options": {"always_print_primitive_fields": true},
        "convert_grpc_status": true,
    });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "main",
        "codec_type": "AUTO",
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "service", "timeout": "30s"}}],
        }]},
        "http_filters": [
            {"name": "transcoder", "typed_config": transcoder},
            {"name": "router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            }},
        ],
    });
    let http2 = json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    });
    json!({
        "static_resources": {
            "listeners": [{
                "name": "main",
                "address": socket(address),
                "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
            }],
            "clusters": [{
                "name": "service",
                "type": "STATIC",
                "connect_timeout": "1s",
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
                "load_assignment": {"cluster_name": "service", "endpoints": [
                    {"lb_endpoints": [{"endpoint": {"address": socket(service)}}]},
                ]},
            }],
        },
    })
}

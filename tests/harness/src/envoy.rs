//! Envoy in front of processes of the system, with gRPC health checks a second apart.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{LIMIT, eventually, find_program, skip_foreign};

/// A running Envoy. It is killed when this is dropped.
pub struct Envoy {
    child: Child,
    /// The address that it balances.
    pub address: SocketAddr,
    admin: SocketAddr,
    folder: TempDir,
}

impl Envoy {
    /// Starts Envoy, and waits until it finds all backends healthy. Without an installed Envoy it prints a note and
    /// returns `None`.
    pub fn start(backends: &[SocketAddr]) -> Option<Self> {
        let Some(program) = find_program("envoy", &[]) else {
            skip_foreign("Envoy", "`scripts/tools envoy` installs it");
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (config, admin) = (folder.path().join("envoy.json"), folder.path().join("admin"));
        std::fs::write(&config, bootstrap(backends).to_string()).expect("a file");
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let mut envoy = Command::new(program);
        envoy.arg("--config-path").arg(config).arg("--admin-address-path").arg(&admin);
        // Without hot restart, several of them run on one machine.
        envoy.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
        let child = envoy.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("Envoy starts");
        // The addresses are known once it runs.
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut envoy = Self { child, address: unknown, admin: unknown, folder };
        envoy.admin = eventually("Envoy writes its admin address", || {
            assert!(envoy.child.try_wait().expect("a child").is_none(), "Envoy ended: {}", envoy.log());
            std::fs::read_to_string(&admin).ok()?.parse().ok()
        });
        envoy.address = eventually("Envoy listens", || {
            envoy.page("/listeners").lines().find_map(|line| line.strip_prefix("main::")?.parse().ok())
        });
        eventually("all backends are healthy", || {
            backends.iter().all(|backend| envoy.is_healthy(*backend)).then_some(())
        });
        Some(envoy)
    }

    /// Whether Envoy finds a backend healthy.
    pub fn is_healthy(&self, backend: SocketAddr) -> bool {
        self.page("/clusters").contains(&format!("backends::{backend}::health_flags::healthy"))
    }

    /// A page of its admin interface.
    fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).expect("Envoy runs");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("it reads");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer.replace('\r', "")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of Envoy\n{}", self.log());
        }
    }
}

/// One listener, and one cluster with health checks. There are no retries: each failure of a backend is seen.
fn bootstrap(backends: &[SocketAddr]) -> Value {
    let address = |address: &str, port: u16| json!({"socket_address": {"address": address, "port_value": port}});
    let endpoints: Vec<_> = backends
        .iter()
        .map(|backend| json!({"endpoint": {"address": address(&backend.ip().to_string(), backend.port())}}))
        .collect();
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": "backends", "timeout": "0s"}});
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "main",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{
            "name": "router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
    });
    let http2 = json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    });
    json!({
        "admin": {"address": address("127.0.0.1", 0)},
        "static_resources": {
            "listeners": [{
                "name": "main",
                "address": address("127.0.0.1", 0),
                "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
            }],
            "clusters": [{
                "name": "backends",
                "type": "STATIC",
                "connect_timeout": "1s",
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
                "load_assignment": {"cluster_name": "backends", "endpoints": [{"lb_endpoints": endpoints}]},
                "health_checks": [{
                    "timeout": "1s",
                    "interval": "1s",
                    "no_traffic_interval": "1s",
                    "unhealthy_threshold": 2,
                    "healthy_threshold": 1,
                    "grpc_health_check": {},
                }],
            }],
        },
    })
}

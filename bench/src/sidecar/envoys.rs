//! Configurations of Envoy that do what the sidecars do: HTTP/2 in, HTTP/2 out, with mutual TLS on one side or none.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::envoy::{Envoy, http2, socket};

/// As many threads as the sidecar has.
const WORKERS: usize = 1;

/// Plaintext on both sides.
pub(super) async fn plaintext(service: SocketAddr) -> anyhow::Result<Envoy> {
    Envoy::start(WORKERS, |address, _| Ok(bootstrap(address, service, None, None))).await
}

/// Mutual TLS towards the caller.
pub(super) async fn server(service: SocketAddr, ca: &Path, name: &str) -> anyhow::Result<Envoy> {
    let mut tls = common(ca, name);
    tls["@type"] = json!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext");
    tls["require_client_certificate"] = json!(true);
    Envoy::start(WORKERS, |address, _| Ok(bootstrap(address, service, Some(tls), None))).await
}

/// Mutual TLS towards the other one.
pub(super) async fn client(other: SocketAddr, ca: &Path, name: &str) -> anyhow::Result<Envoy> {
    let mut tls = common(ca, name);
    tls["@type"] = json!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext");
    tls["sni"] = json!("bench");
    Envoy::start(WORKERS, |address, _| Ok(bootstrap(address, other, None, Some(tls)))).await
}

fn common(ca: &Path, name: &str) -> Value {
    let file = |name: String| json!({"filename": ca.join(name)});
    json!({"common_tls_context": {
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [
            {"certificate_chain": file(format!("{name}.pem")), "private_key": file(format!("{name}.key"))},
        ],
        "validation_context": {"trusted_ca": file("ca.pem".to_owned())},
    }})
}

fn tls(context: Value) -> Value {
    json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
}

/// A listener for gRPC, and one cluster behind it. There is no access log unless one is configured.
fn bootstrap(address: SocketAddr, next: SocketAddr, inbound: Option<Value>, outbound: Option<Value>) -> Value {
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "main",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "next", "timeout": "30s"}}],
        }]},
        "http_filters": [{"name": "router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        }}],
    });
    let mut chain = json!({"filters": [{"name": "manager", "typed_config": manager}]});
    if let Some(context) = inbound {
        chain["transport_socket"] = tls(context);
    }
    let mut cluster = json!({
        "name": "next",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": http2(),
        "load_assignment": {"cluster_name": "next", "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": socket(next)}}]},
        ]},
    });
    if let Some(context) = outbound {
        cluster["transport_socket"] = tls(context);
    }
    json!({"static_resources": {
        "listeners": [{"name": "main", "address": socket(address), "filter_chains": [chain]}],
        "clusters": [cluster],
    }})
}

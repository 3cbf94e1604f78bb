//! Envoy with its transcoder between JSON and gRPC, in front of the service.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::envoy::{Envoy, http2, socket};

/// Starts Envoy in front of `service`, with a worker for each core.
///
/// # Errors
///
/// If it is not installed, or does not start.
pub(super) async fn start(service: SocketAddr) -> anyhow::Result<Envoy> {
    let cores = std::thread::available_parallelism()?.get();
    Envoy::start(cores, |address, folder| {
        let contracts = folder.join("contracts");
        std::fs::write(&contracts, mesh_proto::FILE_DESCRIPTOR_SET)?;
        Ok(bootstrap(address, service, &contracts))
    })
    .await
}

/// A listener for HTTP/1.1 that transcodes for one cluster. It prints what the edge prints, so that the answers are
/// equal.
fn bootstrap(address: SocketAddr, service: SocketAddr, contracts: &Path) -> Value {
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
                "typed_extension_protocol_options": http2(),
                "load_assignment": {"cluster_name": "service", "endpoints": [
                    {"lb_endpoints": [{"endpoint": {"address": socket(service)}}]},
                ]},
            }],
        },
    })
}

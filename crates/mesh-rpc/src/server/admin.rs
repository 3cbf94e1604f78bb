//! The pages for operators, over plain HTTP: `/healthz` (the process lives), `/readyz` (it wants traffic), `/metrics`.

use http::{Method, Request, Response, StatusCode, header};
use tonic::body::Body;

use super::health::Health;
use crate::telemetry::Metrics;

/// Answers what is not gRPC.
#[derive(Clone)]
pub struct Admin {
    /// For `/readyz`.
    pub health: Health,
    /// For `/metrics`.
    pub metrics: Metrics,
}

impl Admin {
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
        }
        match request.uri().path() {
            "/healthz" => page(StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => {
                let (ready, summary) = self.health.summary();
                page(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, TEXT, summary)
            }
            "/metrics" => page(StatusCode::OK, OPEN_METRICS, self.metrics.render()),
            _ => not_found(),
        }
    }
}

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn not_found() -> Response<Body> {
    let known = "not found: this is a gRPC server; for people there are /healthz, /readyz and /metrics\n";
    page(StatusCode::NOT_FOUND, TEXT, known.to_owned())
}

/// The status of a gRPC call comes in trailers, which HTTP/1.1 clients seldom read.
pub(super) fn needs_http_2() -> Response<Body> {
    page(StatusCode::HTTP_VERSION_NOT_SUPPORTED, TEXT, "gRPC needs HTTP/2\n".to_owned())
}

fn page(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let text = http_body_util::Full::new(bytes::Bytes::from(text));
    let mut response = Response::new(Body::new(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

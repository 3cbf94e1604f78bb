//! The admin pages over HTTP: `/healthz` (liveness), `/readyz` (readiness) and `/metrics`.

use http::{Method, Request, Response, StatusCode, header};
use tonic::body::Body;

use super::health::Health;
use crate::telemetry::{Exposition, Metrics};

/// Answers the requests for its pages.
#[derive(Clone)]
pub struct Admin {
    /// The readiness, for `/readyz`.
    pub health: Health,
    /// The metrics, for `/metrics`.
    pub metrics: Metrics,
}

impl Admin {
    /// `None`: the path is none of a page.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let path = request.uri().path();
        if PAGES.contains(&path) && !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Some(page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned()));
        }
        Some(match path {
            "/healthz" => page(StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => {
                let (ready, summary) = self.health.summary();
                page(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, TEXT, summary)
            }
            "/metrics" => {
                self.health.measure(&self.metrics);
                let accept = request.headers().get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
                let format = Exposition::of(&accept.collect::<Vec<_>>().join(","));
                let mut response = page(StatusCode::OK, format.content_type(), self.metrics.render(format));
                response.headers_mut().insert(header::VARY, header::HeaderValue::from_static("accept"));
                response
            }
            _ => return None,
        })
    }
}

const PAGES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

const TEXT: &str = "text/plain; charset=utf-8";

/// `edge` is the port of the edge, if it has one of its own.
pub(super) fn not_found(edge: Option<u16>) -> Response<Body> {
    let elsewhere = edge.map(|port| format!("; port {port} answers other HTTP")).unwrap_or_default();
    let text = format!("not found: this is a gRPC server with the pages /healthz, /readyz and /metrics{elsewhere}\n");
    page(StatusCode::NOT_FOUND, TEXT, text)
}

/// gRPC sends the status in trailers, which few HTTP/1.1 clients read.
pub(super) fn needs_http_2() -> Response<Body> {
    page(StatusCode::HTTP_VERSION_NOT_SUPPORTED, TEXT, "gRPC needs HTTP/2\n".to_owned())
}

/// Says in one line why a request is refused.
pub(super) fn refusal(status: StatusCode, why: &str) -> Response<Body> {
    page(status, TEXT, format!("{why}\n"))
}

fn page(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let text = http_body_util::Full::new(bytes::Bytes::from(text));
    let mut response = Response::new(Body::new(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

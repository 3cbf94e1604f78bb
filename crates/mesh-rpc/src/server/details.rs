//! The layer that adds error details, in the head or in the trailers of a stream: a failure without a reason gets one
//! (INV-5), and a failure of a peer becomes one of this service.
//!
//! See: decision 0027.

use http::{HeaderMap, Response};
use tonic::{Code, Status};

use super::answer::{Answer, Answered};
use super::request::Arrived;
use crate::call::body::{failure_of, trailers};
use crate::call::error::with_reason;
use crate::call::{Method, peer};

/// Adds error details to every failure without them, and to every failure of a peer.
pub(super) struct Details<N>(pub(super) N);

impl<N: Answer> Answer for Details<N> {
    async fn answer(&self, call: Arrived) -> Response<Answered> {
        let method = call.method;
        let unknown = (!method.is_known()).then(|| call.request.uri().path().to_owned());
        let mut response = self.0.answer(call).await;
        match failure_of(response.headers()) {
            // The extension holds the handler's status with its cause. A status from the headers has no cause.
            Some(status) if lacks_details(&status) => {
                let status = named(response.extensions_mut().remove().unwrap_or(status), unknown);
                detailed(status, method).into_http()
            }
            _ => {
                response.body_mut().map_trailers(of_a_stream);
                response
            }
        }
    }
}

/// The status of a method that a service does not have, with its path. Generated code says nothing of it.
fn named(status: Status, unknown: Option<String>) -> Status {
    match unknown.filter(|_| status.code() == Code::Unimplemented && status.message().is_empty()) {
        Some(path) => {
            Status::unimplemented(format!("`{path}` is no method of this process; reflection lists those it has"))
        }
        None => status,
    }
}

/// The trailers of a stream, with error details.
fn of_a_stream(given: HeaderMap, method: &Method) -> HeaderMap {
    match failure_of(&given) {
        Some(status) if lacks_details(&status) => {
            let status = detailed(status, method);
            // Trailers carry no cause: the layer logs it.
            if let Some(cause) = std::error::Error::source(&status) {
                tracing::error!(cause, "a stream ended: {}", status.message());
            }
            trailers(&status)
        }
        _ => given,
    }
}

/// Whether the status has no details of this service: none, or those of a peer.
fn lacks_details(status: &Status) -> bool {
    status.code() != Code::Ok && (status.details().is_empty() || peer::is_marked(status))
}

fn detailed(status: Status, method: &Method) -> Status {
    let status = peer::own(status);
    // A streaming request is read while peers are called: the text does not say whose message was unreadable.
    let status = if method.client_streaming { status } else { peer::unreadable(status) };
    if lacks_details(&status) { with_reason(status) } else { status }
}

#[cfg(test)]
mod tests {
    use super::super::answer::{Services, boxed};
    use super::*;
    use crate::call::Call;
    use crate::call::tests::{GET, WATCH};
    use crate::call::{Context, handler};
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::BodyExt as _;
    use http_body_util::StreamBody;
    use tonic::body::Body;
    use tonic_types::StatusExt as _;

    #[tokio::test]
    async fn details_are_added_to_a_failed_stream() {
        let fails = handler(|_| async {
            let end = Frame::trailers(trailers(&Status::not_found("no such thing")));
            Response::new(Body::new(StreamBody::new(stream::iter([Ok::<_, Status>(end)]))))
        });
        let collected =
            boxed(Details(Services(fails)))(Call::to(WATCH, Body::empty())).await.into_body().collect().await.unwrap();
        let status = Status::from_header_map(collected.trailers().unwrap()).unwrap();
        assert_eq!((status.code(), status.message()), (Code::NotFound, "no such thing"));
        assert_eq!(status.get_error_details().error_info().unwrap().reason, "UNSPECIFIED");
    }

    /// A failure of a peer, as a handler receives it and returns it.
    fn of_a_peer() -> Status {
        let refused = Status::permission_denied("private").into_http::<Body>();
        let path = http::uri::PathAndQuery::from_static("/a.v1.A/Get");
        Status::from_header_map(peer::mark(refused, path, &Context::default()).headers()).unwrap()
    }

    fn is_owned(headers: &HeaderMap) {
        let status = Status::from_header_map(headers).unwrap();
        let reason = status.get_error_details().error_info().unwrap().reason.clone();
        assert_eq!((status.code(), &*reason), (Code::Internal, "PEER_FAILED"));
        assert!(status.message().contains("a.v1.A/Get") && !status.message().contains("private"), "{status}");
        assert!(!headers.contains_key("mesh-peer"), "{headers:?}");
    }

    #[tokio::test]
    async fn details_of_a_peer_become_those_of_the_service() {
        let fails = handler(|_| async { of_a_peer().into_http() });
        let response = boxed(Details(Services(fails)))(Call::to(GET, Body::empty())).await;
        is_owned(response.headers());
        let cause = std::error::Error::source(response.extensions().get::<Status>().unwrap()).unwrap();
        assert!(cause.to_string().contains("private"), "the log has no cause: {cause}");

        let fails = handler(|_| async {
            let end = Frame::trailers(trailers(&of_a_peer()));
            Response::new(Body::new(StreamBody::new(stream::iter([Ok::<_, Status>(end)]))))
        });
        let collected =
            boxed(Details(Services(fails)))(Call::to(WATCH, Body::empty())).await.into_body().collect().await.unwrap();
        is_owned(collected.trailers().unwrap());
    }
}

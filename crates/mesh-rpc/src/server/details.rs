//! The layer that adds error details: a failure without a reason gets one, in the head or in the trailers of a stream
//! (INV-5).

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::call::body::trailers;
use crate::call::error::with_reason;
use crate::call::{Handler, handler};

/// Adds error details to every failure without them.
pub(super) fn add(next: Handler) -> Handler {
    handler(move |call| {
        let streaming = call.method.server_streaming;
        let answering = next(call);
        async move {
            let mut response = answering.await;
            match Status::from_header_map(response.headers()) {
                // The extension holds the handler's status with its cause. A status from the headers has no cause.
                Some(status) if lacks_details(&status) => {
                    with_reason(response.extensions_mut().remove().unwrap_or(status)).into_http()
                }
                // A unary response has its failure in the head.
                None if streaming => response.map(|body| Body::new(body.map_frame(with_details))),
                _ => response,
            }
        }
    })
}

fn with_details(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.trailers_ref().and_then(Status::from_header_map) {
        Some(status) if lacks_details(&status) => Frame::trailers(trailers(&with_reason(status))),
        _ => frame,
    }
}

fn lacks_details(status: &Status) -> bool {
    status.code() != Code::Ok && status.details().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Call;
    use crate::call::tests::WATCH;
    use futures_util::stream;
    use http::Response;
    use http_body_util::StreamBody;
    use tonic_types::StatusExt as _;

    #[tokio::test]
    async fn details_are_added_to_a_failed_stream() {
        let fails = handler(|_| async {
            let end = Frame::trailers(trailers(&Status::not_found("no such thing")));
            Response::new(Body::new(StreamBody::new(stream::iter([Ok::<_, Status>(end)]))))
        });
        let collected = add(fails)(Call::to(WATCH, Body::empty())).await.into_body().collect().await.unwrap();
        let status = Status::from_header_map(collected.trailers().unwrap()).unwrap();
        assert_eq!((status.code(), status.message()), (Code::NotFound, "no such thing"));
        assert_eq!(status.get_error_details().error_info().unwrap().reason, "UNSPECIFIED");
    }
}

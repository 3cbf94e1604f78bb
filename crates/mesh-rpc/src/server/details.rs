//! A failure that comes without a reason gets one, in the head of an answer as in the trailers of a stream.

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::call::body::trailers;
use crate::call::error::with_reason;
use crate::call::{Handler, handler};

/// Gives every failure that comes through it a reason.
pub(super) fn give(next: Handler) -> Handler {
    handler(move |call| {
        let streaming = call.method.server_streaming;
        let answering = next(call);
        async move {
            let mut response = answering.await;
            match Status::from_header_map(response.headers()) {
                // As its handler gave it: what came out of the headers has no cause.
                Some(bare) if is_bare(&bare) => {
                    with_reason(response.extensions_mut().remove().unwrap_or(bare)).into_http()
                }
                // What answers once has failed in its head.
                None if streaming => response.map(|body| Body::new(body.map_frame(reasoned))),
                _ => response,
            }
        }
    })
}

fn reasoned(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.trailers_ref().and_then(Status::from_header_map) {
        Some(bare) if is_bare(&bare) => Frame::trailers(trailers(&with_reason(bare))),
        _ => frame,
    }
}

fn is_bare(status: &Status) -> bool {
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
    async fn a_stream_that_fails_without_a_reason_gets_one() {
        let fails = handler(|_| async {
            let end = Frame::trailers(trailers(&Status::not_found("no such thing")));
            Response::new(Body::new(StreamBody::new(stream::iter([Ok::<_, Status>(end)]))))
        });
        let collected = give(fails)(Call::to(WATCH, Body::empty())).await.into_body().collect().await.unwrap();
        let status = Status::from_header_map(collected.trailers().unwrap()).unwrap();
        assert_eq!((status.code(), status.message()), (Code::NotFound, "no such thing"));
        assert_eq!(status.get_error_details().error_info().unwrap().reason, "UNSPECIFIED");
    }
}

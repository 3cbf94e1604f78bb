//! HTTP on the way of a call: requests and answers without gRPC pass the same layers, with the same access, limits,
//! deadlines and telemetry.
//!
//! An answer of HTTP has no status of gRPC. [`ended`] adds one behind its body, by its code, and [`plain`] takes it
//! away again, where the answer leaves for HTTP. A failure of a layer, such as a call that is refused, becomes an error
//! of HTTP.
//!
//! Does not: pass trailers of HTTP on. Few clients read them.

use std::pin::Pin;
use std::task::{self, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::Full;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::body::{failure_of, trailers};
use super::compression::GRPC_ACCEPT_ENCODING;

/// The answer of an HTTP server as that of a call.
pub fn ended<B>(mut response: Response<B>) -> Response<Ended<B>> {
    remove_status(response.headers_mut());
    let status = of_code(response.status());
    response.extensions_mut().insert(Said(status.clone()));
    response.map(|body| Ended { body, status: Some(status) })
}

/// What the code of an answer says. HTTP/1.1 leaves a body as soon as its length has been read, and so before its
/// status: the call did not fail then.
#[derive(Clone, Debug)]
pub struct Said(pub Status);

/// Removes the headers of a status, which only gRPC has.
fn remove_status(headers: &mut HeaderMap) {
    for name in [Status::GRPC_STATUS, Status::GRPC_MESSAGE, Status::GRPC_STATUS_DETAILS] {
        headers.remove(name);
    }
}

/// The status of an answer with this code, for metrics and logs.
fn of_code(code: StatusCode) -> Status {
    let grpc = match code {
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND | StatusCode::GONE => Code::NotFound,
        StatusCode::CONFLICT => Code::Aborted,
        StatusCode::PRECONDITION_FAILED => Code::FailedPrecondition,
        StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        StatusCode::NOT_IMPLEMENTED | StatusCode::METHOD_NOT_ALLOWED => Code::Unimplemented,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        StatusCode::GATEWAY_TIMEOUT => Code::DeadlineExceeded,
        code if code.is_client_error() => Code::InvalidArgument,
        code if code.is_server_error() => Code::Internal,
        _ => Code::Ok,
    };
    Status::new(grpc, format!("HTTP {}", code.as_u16()))
}

/// A body that ends with a status.
pub struct Ended<B> {
    body: B,
    /// `None` once it was sent.
    status: Option<Status>,
}

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for Ended<B>
where
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, status } = &mut *self;
        while status.is_some() {
            match task::ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) if frame.is_data() => return Poll::Ready(Some(Ok(frame))),
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    *status = None;
                    return Poll::Ready(Some(Err(Status::from_error(error.into()))));
                }
                None => break,
            }
        }
        Poll::Ready(status.take().map(|status| Ok(Frame::trailers(trailers(&status)))))
    }

    fn is_end_stream(&self) -> bool {
        self.status.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The answer of a call as one of HTTP. A failure in the head is an error with its reason, and one behind the body
/// breaks the body off, so that nobody takes it for a whole one.
pub fn plain(mut response: Response<Body>) -> Response<Body> {
    if let Some(status) = failure_of(response.headers()) {
        return error(code_of(&status), &status);
    }
    remove_status(response.headers_mut());
    response.headers_mut().remove(GRPC_ACCEPT_ENCODING);
    let said = of_code(response.status()).code();
    if matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        // They have no content, whatever their length says.
        response.headers_mut().remove(CONTENT_LENGTH);
        return response.map(|_| Body::empty());
    }
    response.map(|body| Body::new(Plain { body, said }))
}

/// An error of HTTP that says why. Its headers have the status, too, for a sidecar that calls another.
pub fn error(code: StatusCode, status: &Status) -> Response<Body> {
    let reason = status.get_details_error_info().map(|info| format!("{}: ", info.reason)).unwrap_or_default();
    let mut response = Response::new(Body::new(Full::new(Bytes::from(format!("{reason}{}\n", status.message())))));
    *response.status_mut() = code;
    // A message may be none of a header.
    let _ = status.add_header(response.headers_mut());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The code of a failure, as [the HTTP
/// mapping](https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto) of gRPC's codes has it.
fn code_of(status: &Status) -> StatusCode {
    match status.code() {
        Code::Ok => StatusCode::OK,
        // 499, which has no name.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A body without the status behind it.
struct Plain {
    body: Body,
    /// What the code of the head has said.
    said: Code,
}

impl http_body::Body for Plain {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            match task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) if frame.is_trailers() => {
                    let failed = frame.trailers_ref().and_then(failure_of);
                    if let Some(status) = failed.filter(|status| status.code() != self.said) {
                        return Poll::Ready(Some(Err(status)));
                    }
                }
                polled => return Poll::Ready(polled),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::body::take_until;
    use crate::call::error::exceeded;
    use http_body_util::BodyExt as _;

    fn answer(code: u16, text: &'static str) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = StatusCode::from_u16(code).unwrap();
        response.headers_mut().insert("grpc-status", HeaderValue::from_static("0"));
        response
    }

    #[tokio::test]
    async fn answer_ends_with_a_status_by_its_code_and_leaves_without_it() {
        for (code, grpc) in [(200, Code::Ok), (304, Code::Ok), (404, Code::NotFound), (500, Code::Internal)] {
            let call = ended(answer(code, "text"));
            assert!(!call.headers().contains_key("grpc-status"), "a server without gRPC must not set it");
            let collected = call.into_body().collect().await.unwrap();
            assert_eq!(Status::from_header_map(collected.trailers().unwrap()).unwrap().code(), grpc, "{code}");

            let left = plain(ended(answer(code, "text")).map(Body::new));
            assert_eq!(left.status().as_u16(), code);
            let collected = left.into_body().collect().await.unwrap();
            let text = if code == 304 { "" } else { "text" };
            assert!(collected.trailers().is_none() && collected.to_bytes() == text, "{code}");
        }
    }

    #[tokio::test]
    async fn failure_of_a_layer_is_an_error_or_breaks_the_body_off() {
        let refused = plain(exceeded().into_http());
        assert_eq!(refused.status(), StatusCode::GATEWAY_TIMEOUT);
        let text = refused.into_body().collect().await.unwrap().to_bytes();
        assert!(text.starts_with(b"DEADLINE_EXCEEDED: "), "{text:?}");

        let late = ended(answer(200, "text")).map(|body| take_until(Body::new(body), async { exceeded() }));
        assert!(plain(late).into_body().collect().await.is_err());
    }
}

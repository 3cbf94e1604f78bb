//! gRPC-Web in its binary form ([protocol](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md)): gRPC for
//! clients that cannot read trailers. Messages pass as they are; the trailers are the last frame of the body.

use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{self, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::Frame;
use mesh_rpc::call::body::trailers;
use tonic::Status;
use tonic::body::Body;

use crate::headers::{essence, text};

/// The media type, of requests and of answers.
const GRPC_WEB: &str = "application/grpc-web+proto";
/// The first byte of the frame that has the trailers.
const TRAILERS: u8 = 0x80;
/// The status, which a caller finds in the head if there is no body.
const STATUS: [HeaderName; 3] = [
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
];

/// What a request's content type says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Not gRPC-Web.
    Other,
    /// Messages as they are.
    Binary,
    /// Messages in base64, or in another encoding: not served.
    Unknown,
}

/// The format of a request.
pub(crate) fn format(headers: &HeaderMap) -> Format {
    let Some(media_type) = text(headers, CONTENT_TYPE).map(essence) else { return Format::Other };
    match media_type.to_ascii_lowercase().as_str() {
        "application/grpc-web" | GRPC_WEB => Format::Binary,
        other if other.starts_with("application/grpc-web") => Format::Unknown,
        _ => Format::Other,
    }
}

/// The answer of a call as one of gRPC-Web.
pub(crate) fn answer<B>(response: Response<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes, Error = Status> + Unpin + Send + 'static,
{
    let (head, body) = response.into_parts();
    let has_status = head.headers.contains_key(&STATUS[0]);
    let mut response =
        Response::new(if has_status { Body::empty() } else { Body::new(WithTrailers { body: Some(body) }) });
    let headers = response.headers_mut();
    headers.extend(head.headers.into_iter().filter(|(name, _)| !matches!(name, Some(name) if name == CONTENT_LENGTH)));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC_WEB));
    response
}

/// A failure before the call.
pub(crate) fn failure(status: Status) -> Response<Body> {
    answer::<Body>(status.into_http())
}

/// A body whose trailers are its last frame.
struct WithTrailers<B> {
    /// `None` after the trailers.
    body: Option<B>,
}

impl<B: http_body::Body<Data = Bytes, Error = Status> + Unpin> http_body::Body for WithTrailers<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = match task::ready!(Pin::new(body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            // The status of a body that breaks off is its last frame, too.
            Some(Err(status)) => Frame::trailers(trailers(&status)),
            None => Frame::trailers(trailers(&Status::unknown("the answer has no status"))),
        };
        Poll::Ready(Some(Ok(match frame.into_trailers() {
            Ok(trailers) => {
                self.body = None;
                Frame::data(encode(&trailers))
            }
            Err(data) => data,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }
}

/// The frame with the trailers: lines of a name in lower case and a value.
fn encode(trailers: &HeaderMap) -> Bytes {
    let mut lines = String::new();
    for (name, value) in trailers {
        // gRPC's own trailers are ASCII: messages are percent-encoded, and other bytes are base64.
        if let Ok(value) = value.to_str() {
            let _ = write!(lines, "{name}: {value}\r\n");
        }
    }
    let mut frame = BytesMut::with_capacity(lines.len() + 5);
    frame.put_u8(TRAILERS);
    frame.put_u32(u32::try_from(lines.len()).unwrap_or_default());
    frame.put_slice(lines.as_bytes());
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::{BodyExt as _, StreamBody};

    fn not_found() -> HeaderMap {
        HeaderMap::from_iter([(STATUS[0].clone(), HeaderValue::from_static("5"))])
    }

    #[tokio::test]
    async fn trailers_are_the_last_frame() {
        let frames =
            [Ok::<_, Status>(Frame::data(Bytes::from_static(b"\0\0\0\0\x01a"))), Ok(Frame::trailers(not_found()))];
        let response = answer(Response::new(Body::new(StreamBody::new(stream::iter(frames)))));
        assert_eq!(response.headers()[CONTENT_TYPE], GRPC_WEB);
        let body = response.into_body().collect().await.unwrap();
        assert!(body.trailers().is_none());
        assert_eq!(body.to_bytes(), &b"\0\0\0\0\x01a\x80\0\0\0\x10grpc-status: 5\r\n"[..]);
    }

    #[tokio::test]
    async fn failure_without_a_message_has_its_status_in_the_head() {
        let response = failure(Status::not_found("no such title"));
        assert_eq!(response.headers()[&STATUS[0]], "5");
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
    }

    #[test]
    fn format_is_read_of_the_content_type() {
        let format = |media_type: &'static str| {
            format(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))]))
        };
        assert_eq!(format("application/grpc-web"), Format::Binary);
        assert_eq!(format("application/grpc-web+proto; charset=utf-8"), Format::Binary);
        assert_eq!(format("application/grpc-web-text"), Format::Unknown);
        assert_eq!(format("application/grpc-web+json"), Format::Unknown);
        assert_eq!(format("application/json"), Format::Other);
    }
}

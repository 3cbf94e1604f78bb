//! The layer that decompresses requests and compresses responses.
//!
//! A response is compressed if its request was, and if the client takes gzip: a client that saves bandwidth says so by
//! what it sends. Calls in memory are not compressed.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Response};

use super::answer::{Answer, Answered};
use super::body_limit::MAX_BYTES_IN_FLIGHT;
use super::request::Arrived;
use crate::call::Protocol;
use crate::call::compression::{ACCEPTED, Decompressed, Encoding, GRPC_ACCEPT_ENCODING, GRPC_ENCODING, decode, encode};

/// Decompresses requests and compresses responses of calls from the network.
pub(super) struct Compression<N> {
    next: N,
    total: Arc<AtomicUsize>,
}

impl<N> Compression<N> {
    pub(super) fn around(next: N) -> Self {
        Self { next, total: Arc::default() }
    }
}

impl<N: Answer> Answer for Compression<N> {
    async fn answer(&self, mut call: Arrived) -> Response<Answered> {
        // HTTP has encodings of its own.
        if call.connection.is_none() || call.method.protocol == Protocol::Http {
            return self.next.answer(call).await;
        }
        let encoding = Encoding::take(call.request.headers_mut());
        let compresses = encoding == Some(Encoding::Gzip) && takes_gzip(call.request.headers());
        // The bytes count until the response: the handler keeps the message after it has read the body.
        let counted = encoding.map(|_| Arc::new(Decompressed::of(&self.total, MAX_BYTES_IN_FLIGHT)));
        if let (Some(encoding), Some(counted)) = (encoding, counted.clone()) {
            call = Box::new(call.map_body(|body| body.decoded(|body| decode(body, encoding, counted))));
        }
        let mut response = self.next.answer(call).await;
        drop(counted);
        response.headers_mut().insert(GRPC_ACCEPT_ENCODING, ACCEPTED);
        // A failure in the head has no message.
        if compresses && !response.headers().contains_key("grpc-status") {
            response.headers_mut().insert(GRPC_ENCODING, HeaderValue::from_static("gzip"));
            response.headers_mut().remove(CONTENT_LENGTH);
            response.body_mut().map(encode);
        }
        response
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(GRPC_ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|name| name.trim() == "gzip")
}

#[cfg(test)]
mod tests {
    use super::super::answer::{Services, boxed};
    use super::*;
    use crate::call::Call;
    use crate::call::tests::GET;
    use crate::call::{Connection, handler};
    use bytes::Bytes;
    use flate2::write::GzEncoder;
    use futures_util::{StreamExt as _, stream};
    use http_body::Frame;
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use std::io::Write as _;
    use tonic::body::Body;
    use tonic::{Code, Status};
    use tonic_types::StatusExt as _;

    const TEXT: &[u8] = &[b'a'; 5000];

    fn message(flag: u8, message: &[u8]) -> Vec<u8> {
        [&[flag], &(message.len() as u32).to_be_bytes()[..], message].concat()
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Answers with its request.
    async fn echo(encoding: Option<&'static str>, body: Vec<u8>) -> Result<(HeaderMap, Bytes), Status> {
        let echo = boxed(Compression::around(Services(handler(|call| async {
            assert!(!call.request.headers().contains_key(GRPC_ENCODING));
            let length = call.request.headers().get(CONTENT_LENGTH).cloned();
            match call.request.into_body().collect().await {
                Ok(body) => {
                    let body = body.to_bytes();
                    assert!(length.is_none_or(|length| length == *body.len().to_string()));
                    let mut response = Response::new(Body::new(Full::new(body.clone())));
                    response.headers_mut().insert(CONTENT_LENGTH, body.len().into());
                    response
                }
                Err(status) => status.into_http(),
            }
        }))));
        let length = body.len();
        let mut call = Call::to(GET, Body::new(Full::new(Bytes::from(body))));
        call.request.headers_mut().insert(CONTENT_LENGTH, length.into());
        call.connection = Some(Connection::default());
        if let Some(encoding) = encoding {
            call.request.headers_mut().insert(GRPC_ENCODING, HeaderValue::from_static(encoding));
            call.request.headers_mut().insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static("deflate, gzip"));
        }
        let (head, body) = echo(call).await.into_parts();
        assert_eq!(head.headers[GRPC_ACCEPT_ENCODING], ACCEPTED);
        match Status::from_header_map(&head.headers) {
            Some(status) => Err(status),
            None => Ok((head.headers, body.collect().await.unwrap().to_bytes())),
        }
    }

    #[tokio::test]
    async fn compression_decompresses_requests_and_answers_in_kind() {
        let (headers, body) = echo(Some("gzip"), message(1, &gzipped(TEXT))).await.unwrap();
        assert_eq!(headers[GRPC_ENCODING], "gzip");
        assert!(body[0] == 1 && !headers.contains_key(CONTENT_LENGTH));
        let counted = Arc::new(Decompressed::of(&Arc::default(), TEXT.len()));
        let decoded = decode(Body::new(Full::new(body)), Encoding::Gzip, counted).collect().await.unwrap();
        assert_eq!(decoded.to_bytes(), message(0, TEXT));
    }

    #[tokio::test]
    async fn compression_takes_an_uncompressed_message_whatever_the_header_says() {
        for encoding in [None, Some("identity"), Some("gzip"), Some("br")] {
            let (_, body) = echo(encoding, [message(0, b"one"), message(0, b"")].concat()).await.unwrap();
            assert_eq!(body, [message(0, b"one"), message(0, b"")].concat(), "{encoding:?}");
        }
    }

    #[tokio::test]
    async fn compression_refuses_what_it_cannot_decompress() {
        let unsupported = echo(Some("br"), message(1, b"?")).await.unwrap_err();
        assert_eq!(unsupported.code(), Code::Unimplemented);
        assert_eq!(unsupported.metadata().get(GRPC_ACCEPT_ENCODING).unwrap(), "identity,gzip");
        assert_eq!(echo(Some("gzip"), message(1, b"?")).await.unwrap_err().code(), Code::InvalidArgument);
    }

    #[tokio::test]
    async fn compression_bounds_decompressed_bytes() {
        let total = Arc::default();
        let decoded = |limit| {
            let body = Body::new(Full::new(Bytes::from(message(1, &gzipped(&[0; 1 << 20])))));
            decode(body, Encoding::Gzip, Arc::new(Decompressed::of(&total, limit))).collect()
        };
        assert_eq!(decoded((1 << 20) - 1).await.unwrap_err().code(), Code::ResourceExhausted);
        assert!(decoded(1 << 20).await.is_ok(), "the bytes of the first body count no more");
    }

    #[tokio::test]
    async fn compression_refuses_a_message_that_is_too_large_before_it_arrives() {
        let length = u32::MAX.to_be_bytes();
        let head = Bytes::from([&[1], &length[..]].concat());
        let endless = stream::iter([Ok::<_, Status>(Frame::data(head))]).chain(stream::pending());
        let body = Body::new(StreamBody::new(endless));
        let counted = Arc::new(Decompressed::of(&Arc::default(), MAX_BYTES_IN_FLIGHT));
        let refused = decode(body, Encoding::Gzip, counted).collect().await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        // 70 MB of zeros are 70 kB.
        let bomb = Body::new(Full::new(Bytes::from(message(1, &gzipped(&vec![0; 70_000_000])))));
        let counted = Arc::new(Decompressed::of(&Arc::default(), MAX_BYTES_IN_FLIGHT));
        let refused = decode(bomb, Encoding::Gzip, counted).collect().await.unwrap_err();
        assert_eq!(refused.get_details_error_info().unwrap().reason, "MESSAGE_TOO_LARGE");
    }

    #[tokio::test]
    async fn compression_passes_an_uncompressed_message_as_it_arrives() {
        let begun = Bytes::from([&[0][..], &u32::MAX.to_be_bytes(), b"begun"].concat());
        let frames = stream::iter([Ok::<_, Status>(Frame::data(begun.clone()))]).chain(stream::pending());
        let counted = Arc::new(Decompressed::of(&Arc::default(), MAX_BYTES_IN_FLIGHT));
        let mut decoded = decode(Body::new(StreamBody::new(frames)), Encoding::Gzip, counted);
        assert_eq!(decoded.frame().await.unwrap().unwrap().into_data().unwrap(), begun);
    }
}

//! What is a call, and what is answered to a request that is none although its path is that of a method.
//!
//! Guarantees, as in [gRPC over HTTP/2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md):
//! - A call is a POST with `application/grpc`. Another HTTP method is answered with 405 and `Allow: POST`, another
//!   content type with 415.
//! - The services of the process read Protobuf. A call in another format, such as `application/grpc+json`, is answered
//!   with 415 and with a status of gRPC, UNIMPLEMENTED.

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tonic::Code;
use tonic::body::Body;

use super::admin;
use crate::call::error::{DOMAIN, status};

/// Whether a request is a call of gRPC, in any format. `application/grpc-web` is another protocol.
pub fn is_grpc<B>(request: &Request<B>) -> bool {
    *request.method() == Method::POST && format(request.headers()).is_some()
}

/// What stands behind `application/grpc`: nothing, a format such as `+proto`, parameters.
fn format(headers: &HeaderMap) -> Option<&[u8]> {
    let (start, rest) = headers.get(CONTENT_TYPE)?.as_bytes().split_at_checked(b"application/grpc".len())?;
    let is_grpc = start.eq_ignore_ascii_case(b"application/grpc") && matches!(rest.first(), None | Some(b'+' | b';'));
    is_grpc.then_some(rest)
}

/// The refusal of a call whose messages are not in Protobuf. A client of gRPC reads its status, and another its code.
pub(super) fn refuse_format(headers: &HeaderMap) -> Option<Response<Body>> {
    let format = format(headers).unwrap_or_default();
    let name = format.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    if name.is_empty() || name.eq_ignore_ascii_case(b"+proto") {
        return None;
    }
    let message =
        "the messages of a call are in Protobuf: its content type is application/grpc or application/grpc+proto";
    let mut response = status(Code::Unimplemented, DOMAIN, "UNSUPPORTED_MEDIA_TYPE", message).into_http();
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Some(response)
}

/// The answer to a request that is no call, at the path of a method.
pub(super) fn not_a_call(method: &Method) -> Response<Body> {
    if *method == Method::POST {
        let why = "this path is a method of gRPC: the content type of a call is application/grpc";
        return admin::refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, why);
    }
    let why = "this path is a method of gRPC: a call is a POST with the content type application/grpc";
    let mut response = admin::refusal(StatusCode::METHOD_NOT_ALLOWED, why);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_is_a_post_with_the_content_type_of_grpc() {
        for (method, content_type, is_call, is_read) in [
            ("POST", "application/grpc", true, true),
            ("POST", "Application/gRPC+Proto", true, true),
            ("POST", "application/grpc; charset=utf-8", true, true),
            ("POST", "application/grpc+proto ;v=1", true, true),
            ("POST", "application/grpc+json", true, false),
            ("POST", "application/grpc+", true, false),
            ("POST", "application/grpc-web+proto", false, true),
            ("POST", "application/json", false, true),
            ("POST", "", false, true),
            ("GET", "application/grpc", false, true),
        ] {
            let request = Request::builder().method(method).header(CONTENT_TYPE, content_type).body(()).unwrap();
            assert_eq!(is_grpc(&request), is_call, "{method} {content_type}");
            assert_eq!(refuse_format(request.headers()).is_none(), is_read, "{method} {content_type}");
        }
    }
}

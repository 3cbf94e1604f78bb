//! The layer that bounds the size of a status.
//!
//! A client refuses a header list above its limit: 8 KiB for gRPC's C core and grpc-go's older releases. It then
//! reports a code of its own, without a reason. Messages that echo a request can exceed that.
//!
//! Guarantees:
//! - A failed call's headers, or a failed stream's trailers, stay below 8 KiB as HTTP/2 counts them, encoded.
//! - Code, reason and `RetryInfo` remain. Text ends between two characters, and says that it was shortened.
//! - A `BadRequest` that lost violations has their number in the message, and in the metadata of its `ErrorInfo` under
//!   `violations`.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use prost::Message as _;
use prost_types::Any;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic_types::pb;

use super::answer::{Answer, Answered};
use super::request::Arrived;
use crate::call::Method;
use crate::call::body::{failure_of, trailers};

/// The limit of the narrowest client, with space for the headers that hyper adds.
const MAX_HEADERS: usize = 8 * 1024 - 256;
/// What HTTP/2 counts for a header beside its name and its value.
const HEADER_OVERHEAD: usize = 32;
/// The message, percent-encoded.
const MAX_MESSAGE: usize = 1024;
/// All details together, before base64.
const MAX_DETAILS: usize = 3400;
/// The metadata of the `ErrorInfo`.
const MAX_INFO_METADATA: usize = 1000;
/// The violations of a `BadRequest`.
const MAX_VIOLATIONS: usize = 1500;
/// One name or description inside of the details.
const MAX_TEXT: usize = 256;

/// Shortens every status above the limit.
pub(super) struct StatusSize<N>(pub(super) N);

impl<N: Answer> Answer for StatusSize<N> {
    async fn answer(&self, call: Arrived) -> Response<Answered> {
        let mut response = self.0.answer(call).await;
        let Some(status) = oversized(response.headers()) else {
            response.body_mut().map_trailers(of_a_stream);
            return response;
        };
        let mut short = shorten(&status);
        // The extension holds the handler's status with its cause.
        let given = response.extensions_mut().remove::<Status>();
        if let Some(given) = given.filter(|given| std::error::Error::source(given).is_some()) {
            short.set_source(Arc::new(given));
        }
        short.into_http()
    }
}

/// The trailers of a stream within the limit.
fn of_a_stream(given: HeaderMap, _: &Method) -> HeaderMap {
    match oversized(&given) {
        Some(status) => trailers(&shorten(&status)),
        None => given,
    }
}

/// The failure in these headers, if they exceed the limit.
fn oversized(headers: &HeaderMap) -> Option<Status> {
    if !headers.contains_key(Status::GRPC_STATUS) || size(headers) <= MAX_HEADERS {
        return None;
    }
    failure_of(headers)
}

fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| header_size(name.as_str(), value.as_bytes())).sum()
}

fn header_size(name: &str, value: &[u8]) -> usize {
    name.len() + value.len() + HEADER_OVERHEAD
}

fn shorten(status: &Status) -> Status {
    // tonic and every gRPC library put a `google.rpc.Status` here. Other bytes cannot be shortened.
    let details = pb::Status::decode(status.details()).unwrap_or_default().details;
    let (details, violations) = shorten_details(details);
    let message = match violations {
        Some(all) => cut(status.message(), MAX_MESSAGE, &format!(" ({all} violations in all)")),
        None => cut(status.message(), MAX_MESSAGE, ""),
    };
    let code = status.code();
    let details = match details.is_empty() {
        true => Bytes::new(),
        false => pb::Status { code: code as i32, message: message.clone(), details }.encode_to_vec().into(),
    };
    let mut short = Status::with_details(code, message, details);
    *short.metadata_mut() = shorten_metadata(status.metadata(), size(&trailers(&short)));
    short
}

/// The details within their limit, and the number of violations if some are missing.
fn shorten_details(details: Vec<Any>) -> (Vec<Any>, Option<usize>) {
    let mut bad: Option<pb::BadRequest> = find(&details, "BadRequest");
    let all = bad.as_ref().map_or(0, |bad| bad.field_violations.len());
    bad.iter_mut().for_each(shorten_violations);
    let violations = bad.as_ref().filter(|bad| bad.field_violations.len() < all).map(|_| all);
    let mut info: Option<pb::ErrorInfo> = find(&details, "ErrorInfo");
    if let Some(info) = &mut info {
        shorten_info(info);
        info.metadata.extend(violations.map(|all| ("violations".to_owned(), all.to_string())));
    }
    let retry: Option<pb::RetryInfo> = find(&details, "RetryInfo");
    let known = [close("ErrorInfo", info), close("RetryInfo", retry), close("BadRequest", bad)];
    let mut short: Vec<_> = known.into_iter().flatten().collect();
    let mut left = MAX_DETAILS.saturating_sub(short.iter().map(Any::encoded_len).sum());
    for detail in details.into_iter().filter(|detail| !KNOWN.iter().any(|name| is(detail, name))) {
        if let Some(rest) = left.checked_sub(detail.encoded_len() + 8) {
            left = rest;
            short.push(detail);
        }
    }
    (short, violations)
}

/// The details that are shortened. Any other is kept whole or dropped.
const KNOWN: [&str; 3] = ["ErrorInfo", "RetryInfo", "BadRequest"];

fn is(detail: &Any, name: &str) -> bool {
    detail.type_url.strip_suffix(name).is_some_and(|domain| domain.ends_with("/google.rpc."))
}

fn find<M: prost::Message + Default>(details: &[Any], name: &str) -> Option<M> {
    details.iter().find(|detail| is(detail, name)).and_then(|detail| M::decode(&*detail.value).ok())
}

fn close(name: &str, message: Option<impl prost::Message>) -> Option<Any> {
    let type_url = format!("type.googleapis.com/google.rpc.{name}");
    message.map(|message| Any { type_url, value: message.encode_to_vec() })
}

fn shorten_info(info: &mut pb::ErrorInfo) {
    info.reason = cut(&info.reason, MAX_TEXT, "");
    info.domain = cut(&info.domain, MAX_TEXT, "");
    // The short values first: they are the numbers and the names.
    let mut metadata: Vec<_> = info.metadata.drain().collect();
    metadata.sort_by_key(|(key, value)| (key.len() + value.len(), key.clone()));
    let mut left = MAX_INFO_METADATA;
    info.metadata = metadata.into_iter().map_while(|(key, value)| fits(&mut left, key, value)).collect();
}

fn fits(left: &mut usize, key: String, value: String) -> Option<(String, String)> {
    *left = left.checked_sub(key.len() + value.len() + 8)?;
    Some((key, value))
}

fn shorten_violations(bad: &mut pb::BadRequest) {
    let mut left = MAX_VIOLATIONS;
    let fits = |violation: &pb::bad_request::FieldViolation| match left.checked_sub(violation.encoded_len() + 4) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    let short =
        std::mem::take(&mut bad.field_violations).into_iter().map(|violation| pb::bad_request::FieldViolation {
            field: cut(&violation.field, MAX_TEXT, ""),
            description: cut(&violation.description, MAX_TEXT, ""),
            reason: cut(&violation.reason, MAX_TEXT, ""),
            localized_message: None,
        });
    bad.field_violations = short.take_while(fits).collect();
}

/// The custom metadata for which there is space, the short ones first.
fn shorten_metadata(metadata: &MetadataMap, used: usize) -> MetadataMap {
    let headers = metadata.clone().into_headers();
    let mut entries: Vec<_> = headers.iter().filter(|(name, _)| *name != header::CONTENT_TYPE).collect();
    entries.sort_by_key(|(name, value)| header_size(name.as_str(), value.as_bytes()));
    let mut left = MAX_HEADERS.saturating_sub(used + header_size("content-type", b"application/grpc"));
    let mut short = HeaderMap::new();
    for (name, value) in entries {
        let Some(rest) = left.checked_sub(header_size(name.as_str(), value.as_bytes())) else { break };
        left = rest;
        short.append(name.clone(), value.clone());
    }
    MetadataMap::from_headers(short)
}

/// `text` if it has at most `max` bytes percent-encoded; else its start and a note, together within `max`.
fn cut(text: &str, max: usize, note: &str) -> String {
    let encoded = |character: char| if character.is_ascii_alphanumeric() { 1 } else { 3 * character.len_utf8() };
    if note.is_empty() && text.chars().map(encoded).sum::<usize>() <= max {
        return text.to_owned();
    }
    let end = format!("… shortened{note}");
    let mut left = max.saturating_sub(end.chars().map(encoded).sum());
    let start = text.chars().take_while(|character| match left.checked_sub(encoded(*character)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    });
    start.chain(end.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::answer::{Services, boxed};
    use super::*;
    use crate::call::Call;
    use crate::call::handler;
    use crate::call::tests::{GET, WATCH};
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::BodyExt as _;
    use http_body_util::StreamBody;
    use std::collections::HashMap;
    use std::time::Duration;
    use tonic::Code;
    use tonic::body::Body;
    use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

    /// The narrowest limit of a client.
    const CLIENT: usize = 8 * 1024;

    /// A text of up to `max` characters of one to four bytes.
    fn text(random: &mut fastrand::Rng, max: usize) -> String {
        let length = random.usize(..=max);
        let alphabet = ['a', 'Z', '0', ' ', '%', '"', '\n', 'é', '漢', '🎬'];
        (0..length).map(|_| alphabet[random.usize(..alphabet.len())]).collect()
    }

    fn generated(random: &mut fastrand::Rng) -> Status {
        // Most parts are small, so that each of them is the large one at times.
        let mut max = |large| if random.u8(..4) == 0 { large } else { 40 };
        let (message, value, field) = (max(20_000), max(3000), max(2000));
        let (entries, violations, headers) = (max(30), max(100), max(12_000));
        let metadata = (0..random.usize(..=entries)).map(|key| (format!("key{key}"), text(random, value)));
        let mut details =
            ErrorDetails::with_error_info("INVALID_FIELDS", "catalog", metadata.collect::<HashMap<_, _>>());
        details.set_retry_info(Some(Duration::from_millis(250)));
        let violations =
            (0..random.usize(..=violations)).map(|_| FieldViolation::new(text(random, 60), text(random, field)));
        details.set_bad_request(violations.collect::<Vec<_>>());
        details.add_help_link(text(random, value), "https://example.com");
        let mut status = Status::with_error_details(Code::InvalidArgument, text(random, message), details);
        status.metadata_mut().insert("short", "kept".parse().unwrap());
        status.metadata_mut().insert("long", "x".repeat(random.usize(..=headers)).parse().unwrap());
        status
    }

    async fn answered(status: Status) -> Response<Body> {
        boxed(StatusSize(Services(handler(move |_| std::future::ready(status.clone().into_http())))))(Call::to(
            GET,
            Body::empty(),
        ))
        .await
    }

    #[tokio::test]
    async fn status_fits_the_narrowest_client_and_keeps_what_programs_read() {
        let mut random = fastrand::Rng::with_seed(13);
        let mut shortened = 0;
        for case in 0..200 {
            let given = generated(&mut random);
            let head = answered(given.clone()).await.into_parts().0.headers;
            assert!(size(&head) + 200 <= CLIENT, "case {case}: {} bytes", size(&head));
            let status = Status::from_header_map(&head).unwrap();
            let details = status.check_error_details().unwrap();
            let info = details.error_info().unwrap();
            assert_eq!(
                (status.code(), &*info.reason, &*info.domain),
                (Code::InvalidArgument, "INVALID_FIELDS", "catalog")
            );
            assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(250)));
            let (kept, sent) = (details.bad_request(), given.get_error_details());
            let number = |bad: Option<&tonic_types::BadRequest>| bad.map_or(0, |bad| bad.field_violations.len());
            if number(kept) < number(sent.bad_request()) {
                let all = number(sent.bad_request()).to_string();
                assert!(status.message().contains(&format!("({all} violations in all)")), "{}", status.message());
                assert_eq!(info.metadata["violations"], all);
            }
            let text = status.message();
            assert!(text == given.message() || text.contains("… shortened"), "case {case}: {text}");
            assert_eq!(status.metadata().get("short").unwrap(), "kept", "case {case}");
            shortened += usize::from(size(&given.into_http::<()>().into_parts().0.headers) > MAX_HEADERS);
        }
        assert!((50..195).contains(&shortened), "{shortened} of the cases exceed the limit");
    }

    #[tokio::test]
    async fn status_below_the_limit_is_unchanged() {
        let mut status = Status::not_found("é".repeat(1000));
        status.set_source(Arc::new(std::io::Error::other("cause")));
        let response = answered(status).await;
        assert_eq!(Status::from_header_map(response.headers()).unwrap().message(), "é".repeat(1000));
        assert!(std::error::Error::source(response.extensions().get::<Status>().unwrap()).is_some());
    }

    #[tokio::test]
    async fn status_above_the_limit_keeps_its_cause() {
        let mut status = Status::internal("x".repeat(9000));
        status.set_source(Arc::new(std::io::Error::other("cause")));
        let response = answered(status).await;
        assert!(std::error::Error::source(response.extensions().get::<Status>().unwrap()).is_some());
    }

    #[tokio::test]
    async fn status_of_a_stream_fits_too() {
        let fails = handler(|_| async {
            let end = Frame::trailers(trailers(&Status::not_found("漢".repeat(200_000))));
            Response::new(Body::new(StreamBody::new(stream::iter([Ok::<_, Status>(end)]))))
        });
        let collected = boxed(StatusSize(Services(fails)))(Call::to(WATCH, Body::empty()))
            .await
            .into_body()
            .collect()
            .await
            .unwrap();
        assert!(size(collected.trailers().unwrap()) < CLIENT);
        let status = Status::from_header_map(collected.trailers().unwrap()).unwrap();
        assert!(status.message().starts_with("漢漢") && status.message().ends_with("… shortened"), "{status}");
    }
}

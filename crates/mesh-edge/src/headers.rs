//! The headers of a request that travel with its call, and the deadline in them.

use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, AsHeaderName};
use http::{HeaderMap, HeaderName};
use mesh_rpc::call::{MESH_CONSISTENCY, Method, read_timeout};
use tonic::Status;

/// The headers that become metadata. All others stay outside: a client must not set what the mesh sets itself.
static ALLOWED: [HeaderName; 4] =
    [AUTHORIZATION, HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate"), MESH_CONSISTENCY];

/// The headers that a request has once. Of two, a proxy may have checked the other one.
const ONCE: [&str; 12] = [
    "host",
    "authorization",
    "origin",
    "sec-fetch-site",
    "content-type",
    "content-encoding",
    "idempotency-key",
    "if-match",
    "last-event-id",
    "grpc-timeout",
    "sec-websocket-key",
    "sec-websocket-version",
];

/// Finds a header that a request has more than once, and may not.
pub(crate) fn repeated(headers: &HeaderMap) -> Option<&'static str> {
    ONCE.into_iter().find(|name| headers.get_all(*name).iter().nth(1).is_some())
}

/// Whether a header that is a list has this member. The list may be on many lines.
pub(crate) fn lists(headers: &HeaderMap, name: impl AsHeaderName, member: &str) -> bool {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|found| found.trim().eq_ignore_ascii_case(member))
}

/// The metadata of a call.
pub(crate) fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for name in &ALLOWED {
        for value in headers.get_all(name) {
            metadata.append(name, value.clone());
        }
    }
    // A token is not indexed by HTTP/2, and not printed.
    metadata.get_mut(AUTHORIZATION).into_iter().for_each(|token| token.set_sensitive(true));
    metadata
}

/// The deadline of a call: that of the header `grpc-timeout`, or else the default of its contract, and for a call that
/// does not wait for events at most `most`. Without either, such a call has `most`, and one that waits has none. A call
/// whose body goes on as it arrives has `arrival` more.
///
/// # Errors
///
/// INVALID_ARGUMENT: the header is malformed.
pub(crate) fn timeout(
    headers: &HeaderMap,
    method: &Method,
    most: Duration,
    arrival: Duration,
) -> Result<Option<Duration>, Status> {
    let own = read_timeout(headers)?;
    Ok(match own {
        Some(own) if method.waits => Some(own),
        Some(own) => Some(own.min(most + arrival)),
        None if method.waits => None,
        None => Some(method.default_deadline.map_or(most, |default| default.min(most)) + arrival),
    })
}

/// Whether a media type is among those that `Accept` names.
pub(crate) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| essence(range).eq_ignore_ascii_case(media_type))
}

/// A media type without its parameters.
pub(crate) fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// The text of a header that may be sent once.
pub(crate) fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether a client takes gzip.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|name| matches!(name.trim(), "gzip" | "*") || is_weighted_gzip(name))
}

/// `gzip;q=0.5`, but not `gzip;q=0`.
fn is_weighted_gzip(name: &str) -> bool {
    let Some((name, weight)) = name.split_once(';') else { return false };
    let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
    name.trim() == "gzip" && weight.is_some_and(|weight| weight > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use mesh_rpc::call::{Access, IdempotencyLevel};

    #[test]
    fn timeout_is_the_clients_the_contracts_or_the_longest() {
        let seconds = Duration::from_secs;
        let with = |grpc_timeout: Option<&'static str>, default_deadline, arrival| {
            let mut headers = HeaderMap::new();
            headers.extend(
                grpc_timeout.map(|value| (HeaderName::from_static("grpc-timeout"), HeaderValue::from_static(value))),
            );
            let method = Method {
                number: 0,
                service: "",
                name: "",
                idempotency: IdempotencyLevel::IdempotencyUnknown,
                default_deadline,
                client_streaming: false,
                server_streaming: false,
                waits: false,
                protocol: mesh_rpc::call::Protocol::Grpc,
                access: Access::Public,
                scopes: &[],
            };
            timeout(&headers, &method, seconds(30), arrival).unwrap().unwrap()
        };
        assert_eq!(with(None, None, Duration::ZERO), seconds(30));
        assert_eq!(with(None, Some(seconds(2)), Duration::ZERO), seconds(2));
        assert_eq!(with(None, Some(seconds(90)), Duration::ZERO), seconds(30));
        assert_eq!(with(Some("5S"), Some(seconds(2)), Duration::ZERO), seconds(5));
        assert_eq!(with(Some("99S"), None, Duration::ZERO), seconds(30));
        assert_eq!(with(None, Some(seconds(2)), seconds(60)), seconds(62), "an upload as it arrives");
    }
}

//! Passes calls on to the services of other processes, for a gateway: it serves no contract of its own.
//!
//! Guarantees:
//! - Only methods with a public access are passed on.
//! - A call is retried only if no handler has begun it. The failure of a service is passed on as it is.
//! - What a caller says of its cause and of identities is not passed on.
//!
//! The service is the first segment of the package. The contracts of mesh are served by every service: their requests
//! name it, `services/SERVICE/…`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use mesh_rpc::call::body::failure_of;
use mesh_rpc::call::error::{DOMAIN, Violations, invalid_fields, status};
use mesh_rpc::call::{Call, Context, Handler, Method, Methods, handler, peer};
use mesh_rpc::client::{Channel, Peers};
use mesh_rpc::server::health_service;
use prost_reflect::{DescriptorPool, Kind};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::Service as _;
use transcode::scan::fields;

use crate::call::PREFIX;
use crate::chain::Chain;
use crate::guard::check_token;

/// The largest request of a shared contract, in bytes. They have names, cursors and filters.
const MOST: usize = 64 * 1024;

/// Passes calls on to `peers`. Each of `sets` is an encoded `google.protobuf.FileDescriptorSet`.
///
/// # Errors
///
/// A set does not decode.
pub fn forward(peers: &Peers, sets: &[&[u8]], methods: &Methods) -> anyhow::Result<Handler> {
    let channels = methods.services().into_iter().map(|service| (service, peers.channel(service))).collect();
    let forward = Arc::new(Forward { channels, names: names(sets)? });
    Ok(handler(move |call| {
        let forward = Arc::clone(&forward);
        async move { forward.answer(call).await.unwrap_or_else(Status::into_http) }
    }))
}

/// Passes calls from outside of the mesh to `layers`, without what only the mesh may say of a call, and without
/// trailers, which no call has. For the listeners of a gateway: each of its callers is outside.
pub fn from_outside(layers: Handler) -> Handler {
    Arc::new(move |call| match check_token(call.request.headers()) {
        Ok(()) => layers(call.from_outside().map_body(without_trailers)),
        Err(refusal) => Box::pin(std::future::ready(refusal.status.into_http())),
    })
}

/// A body that ends with its data.
pub(crate) fn without_trailers(body: Body) -> Body {
    Body::new(Chain::new([body]))
}

/// Passes calls of public methods and of health to `layers`, and no other. They begin something: a cause is for the
/// services of the mesh, and so are identities.
pub(crate) fn public(layers: Handler) -> Handler {
    Arc::new(move |call| {
        if call.method.access.is_public() || call.method.service == health_service::NAME {
            return layers(call.from_outside());
        }
        Box::pin(std::future::ready(unknown(call.request.uri().path()).into_http()))
    })
}

/// The answer to a call of a method that is not public: the same as for a method that does not exist.
fn unknown(path: &str) -> Status {
    let message = format!("`{path}` is no public method");
    status(Code::Unimplemented, DOMAIN, "UNKNOWN_METHOD", message)
}

/// The field of each shared method's request that names the service, by the path of the method.
fn names(sets: &[&[u8]]) -> anyhow::Result<HashMap<String, (u32, &'static str)>> {
    let mut pool = DescriptorPool::new();
    for set in sets {
        pool.decode_file_descriptor_set(*set)?;
    }
    let mut names = HashMap::new();
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let named =
            ["name", "parent"].into_iter().find_map(|name| Some((method.input().get_field_by_name(name)?, name)));
        if let Some((field, name)) = named.filter(|(field, _)| field.kind() == Kind::String && !field.is_list()) {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            names.insert(path, (field.number(), name));
        }
    }
    Ok(names)
}

struct Forward {
    /// By the name of the service.
    channels: HashMap<&'static str, Channel>,
    names: HashMap<String, (u32, &'static str)>,
}

impl Forward {
    async fn answer(&self, call: Call) -> Result<http::Response<Body>, Status> {
        let method = call.method;
        if !method.access.is_public() {
            return Err(unknown(call.request.uri().path()));
        }
        let call = call.from_outside();
        let context = Context { cause: None, ..Context::current() };
        let (request, name) = if method.is_shared() {
            let (head, body) = call.request.into_parts();
            let (name, body) = self.named(head.uri.path(), body).await?;
            (Request::from_parts(head, body), name)
        } else {
            (call.request, format!("services/{}", method.package()))
        };
        let channel = service(&name).and_then(|service| self.channels.get(service));
        let Some(mut channel) = channel.cloned() else { return Err(missing(method, &name)) };
        let Ok(response) = context.enter(|| channel.call(request)).await;
        let unserved = method.is_shared() && failure_of(response.headers()).is_some_and(|status| is_unserved(&status));
        if unserved { Err(missing(method, &name)) } else { Ok(peer::passed_on(response)) }
    }

    /// The name in the first message, which begins with that of a service, and the body with it.
    async fn named(&self, path: &str, mut body: Body) -> Result<(String, Body), Status> {
        let mut read = BytesMut::new();
        while message(&read).is_none() {
            match body.frame().await {
                Some(frame) => read.extend_from_slice(&frame?.into_data().unwrap_or_default()),
                None => break,
            }
            if read.len() > MOST {
                let message = format!("a request of this method has at most {MOST} bytes");
                return Err(status(Code::ResourceExhausted, DOMAIN, "MESSAGE_TOO_LARGE", message));
            }
        }
        let read = read.freeze();
        let (number, field) = self.names.get(path).copied().unwrap_or((0, "name"));
        let name = message(&read).and_then(|message| name(message, number)).filter(|name| service(name).is_some());
        let name = name.map(str::to_owned).ok_or_else(|| {
            let mut violations = Violations::default();
            violations.check(false, field, "must begin with services/SERVICE");
            invalid_fields(DOMAIN, violations)
        })?;
        Ok((name, Body::new(Chain::new([Body::new(Full::new(read)), body]))))
    }
}

/// The first message, if it has arrived as a whole.
fn message(read: &[u8]) -> Option<&[u8]> {
    let (prefix, rest) = read.split_first_chunk::<PREFIX>()?;
    let [_, length @ ..] = *prefix;
    rest.get(..u32::from_be_bytes(length) as usize)
}

/// The failure of a call to a service that is not there, or does not have what its name says: the same as in a process
/// with all services.
fn missing(method: &Method, name: &str) -> Status {
    // An operation that is not there is deleted already.
    let reason = match name.contains("/operations/") && method.name != "DeleteOperation" {
        true => "OPERATION_NOT_FOUND",
        false => "SERVICE_NOT_FOUND",
    };
    status(Code::NotFound, DOMAIN, reason, format!("there is no {name}"))
}

/// Whether a service does not have the contract of a call.
fn is_unserved(status: &Status) -> bool {
    let info = status.get_details_error_info();
    status.code() == Code::Unimplemented && info.is_some_and(|info| info.reason == "UNKNOWN_SERVICE")
}

/// The last value of a field.
fn name(message: &[u8], number: u32) -> Option<&str> {
    let values = fields(message).map_while(Result::ok).filter(|field| field.number == number);
    std::str::from_utf8(values.last()?.value.bytes()?).ok()
}

/// The service in a name.
fn service(name: &str) -> Option<&str> {
    let service = name.strip_prefix("services/")?.split('/').next()?;
    (!service.is_empty()).then_some(service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_is_read_of_the_request() {
        let name = b"services/artwork/operations/1";
        let message = [&[10, name.len() as u8], &name[..], &[16, 1]].concat();
        assert_eq!(super::name(&message, 1).and_then(service), Some("artwork"));
        assert_eq!(super::name(&message, 2), None);
        assert_eq!(super::name(&message, 3), None);
        assert_eq!((service("services"), service("services/")), (None, None));
    }

    #[test]
    fn message_is_read_once_it_has_arrived() {
        let whole = [&[0, 0, 0, 0, 2][..], b"ab", b"c"].concat();
        assert_eq!(super::message(&whole), Some(&b"ab"[..]));
        assert!((0..7).all(|cut| super::message(&whole[..cut]).is_none()));
    }
}

//! Passes calls on to the services of other processes, for a gateway: it serves no contract of its own.
//!
//! Guarantees:
//! - Only methods with a public access are passed on.
//! - A call is retried only if it was not sent. The failure of a service is passed on as it is.
//! - The cause that a caller sets is not passed on.
//!
//! The service is the first segment of the package. The contracts of mesh are served by every service: their requests name
//! it, `services/SERVICE/…`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use mesh_rpc::call::error::{DOMAIN, Violations, invalid_fields, status};
use mesh_rpc::call::{Call, Context, Handler, Method, Methods, handler, peer};
use mesh_rpc::client::{Channel, Peers};
use mesh_rpc::server::health_service;
use prost_reflect::{DescriptorPool, Kind};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service as _;
use transcode::scan::fields;

use crate::call::PREFIX;
use crate::chain::Chain;

/// The packages whose contracts every service may serve.
const SHARED: [&str; 2] = ["google", "mesh"];
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

/// Passes calls of public methods and of health to `layers`, and no other. They begin something: a cause is for the
/// services of the mesh.
pub(crate) fn public(layers: Handler) -> Handler {
    Arc::new(move |call| {
        if call.method.access.is_public() || call.method.service == health_service::NAME {
            return layers(call.without_cause());
        }
        Box::pin(std::future::ready(unknown(call.method).into_http()))
    })
}

/// The answer to a call of a method that is not public: the same as for a method that does not exist.
fn unknown(method: &Method) -> Status {
    let message = format!("`{}/{}` is no public method", method.service, method.name);
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
            return Err(unknown(method));
        }
        let call = call.without_cause();
        let context = Context { cause: None, ..Context::current() };
        let package = method.service.split('.').next().unwrap_or_default();
        let (request, service) = if SHARED.contains(&package) {
            let (head, body) = call.request.into_parts();
            let (service, body) = self.named(head.uri.path(), body).await?;
            (Request::from_parts(head, body), service)
        } else {
            (call.request, package.to_owned())
        };
        let Some(mut channel) = self.channels.get(service.as_str()).cloned() else {
            let message = format!("there is no service `{service}`");
            return Err(status(Code::NotFound, DOMAIN, "UNKNOWN_SERVICE", message));
        };
        let Ok(response) = context.enter(|| channel.call(request)).await;
        Ok(peer::passed_on(response))
    }

    /// The service that the first message names, and the body with it.
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
        let service = message(&read).and_then(|message| service(message, number)).map(str::to_owned);
        let service = service.ok_or_else(|| {
            let mut violations = Violations::default();
            violations.check(false, field, "must begin with services/SERVICE");
            invalid_fields(DOMAIN, violations)
        })?;
        Ok((service, Body::new(Chain::new([Body::new(Full::new(read)), body]))))
    }
}

/// The first message, if it has arrived as a whole.
fn message(read: &[u8]) -> Option<&[u8]> {
    let (prefix, rest) = read.split_first_chunk::<PREFIX>()?;
    let [_, length @ ..] = *prefix;
    rest.get(..u32::from_be_bytes(length) as usize)
}

/// The service in the last value of a field.
fn service(message: &[u8], number: u32) -> Option<&str> {
    let values = fields(message).map_while(Result::ok).filter(|field| field.number == number);
    let name = std::str::from_utf8(values.last()?.value.bytes()?).ok()?;
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
        assert_eq!(service(&message, 1), Some("artwork"));
        assert_eq!(service(&message, 2), None);
        assert_eq!(service(&message, 3), None);
        assert_eq!(service(b"\x0a\x08services", 1), None);
        assert_eq!(service(b"\x0a\x09services/", 1), None);
    }

    #[test]
    fn message_is_read_once_it_has_arrived() {
        let whole = [&[0, 0, 0, 0, 2][..], b"ab", b"c"].concat();
        assert_eq!(super::message(&whole), Some(&b"ab"[..]));
        assert!((0..7).all(|cut| super::message(&whole[..cut]).is_none()));
    }
}

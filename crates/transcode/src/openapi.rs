//! The OpenAPI 3.1 document of all bindings.
//!
//! Guarantees:
//! - The same routes give the same bytes. Schemas stand in the order of their names, all else in that of the contract.
//! - Descriptions are the comments of the contract; the answers to errors are its lines `CODE: REASON`, with the status
//!   and the domain that the server says it sends.
//! - Headers that give a field, `Idempotency-Key` and `If-Match`, are parameters, and the body does not require the
//!   field.
//! - A method whose callers send a bearer token says so, with the scopes, and has the failures of tokens beside its
//!   own.
//! - Bounds of `buf.validate` are those of the schemas.
//! - A path of several segments, `{name=services/*/operations/*}`, has a parameter a segment.
//! - A method that starts a long-running operation names the messages in it, as `x-operation-info` and in words, and
//!   links to the methods that read or change it.
//! - Does not: describe WebSockets, which OpenAPI cannot. They stand as `x-websocket` beside the methods of their path.
//!
//! See <https://spec.openapis.org/oas/v3.1.0>.

mod answers;
mod bounds;
mod comments;
mod decimals;
mod ids;
mod info;
mod long_running;
mod operations;
mod paths;
mod schemas;

use std::collections::BTreeSet;

use prost_reflect::ServiceDescriptor;

use crate::json::{Json, Object};
use crate::route::Routes;
pub use info::{Answer, Bearer, Info};
use operations::Operations;
use paths::Shape;

/// The document, as JSON.
pub fn document(routes: &Routes, info: Info<'_>) -> Vec<u8> {
    let ids = ids::of(routes.bindings());
    let mut operations = Operations::new(info, long_running::links(routes.bindings(), &ids));
    let mut paths: Vec<(Shape, Object)> = Vec::new();
    for (binding, id) in routes.bindings().iter().zip(&ids) {
        let shape = Shape::of(binding);
        let found = paths.iter().position(|(other, _)| other.pattern == shape.pattern);
        let at = found.unwrap_or(paths.len());
        if found.is_none() {
            paths.push((shape, Object::new()));
        }
        let (shape, item) = &mut paths[at];
        let key = match binding.http_method.as_str() {
            "WEBSOCKET" => "x-websocket".to_owned(),
            method @ ("GET" | "PUT" | "POST" | "DELETE" | "PATCH" | "OPTIONS" | "HEAD" | "TRACE") => {
                method.to_ascii_lowercase()
            }
            // OpenAPI 3.1 has no other methods.
            _ => continue,
        };
        *item = std::mem::take(item).with(key, operations.operation(binding, id, shape));
    }
    let paths: Object = paths.into_iter().map(|(shape, item)| (shape.path(), item.into())).collect();
    let server = if info.server.is_empty() { "/" } else { info.server };
    let tags = tags(routes, &mut operations);
    let mut components = Object::new().with("schemas", operations.finish());
    let document = Object::new()
        .with("openapi", "3.1.0")
        .with("info", Object::new().with("title", info.title).with("version", info.version))
        .with("servers", vec![Object::new().with("url", server)]);
    if !info.bearer.methods.is_empty() {
        let scheme = Object::new().with("type", "http").with("scheme", "bearer").with("bearerFormat", "JWT");
        let scheme = scheme.with_some("description", info.bearer.description);
        components = components.with("securitySchemes", Object::new().with(info::SCHEME, scheme));
    }
    // A method that needs a token says so itself.
    let document = document.with("security", Vec::<Json>::new());
    document.with("tags", tags).with("paths", paths).with("components", components).to_bytes()
}

/// A tag a service that has a binding.
fn tags(routes: &Routes, operations: &mut Operations) -> Vec<Json> {
    let mut known = BTreeSet::new();
    let services = routes.bindings().iter().map(|binding| binding.method.parent_service());
    let mut tag = |service: &ServiceDescriptor| {
        let comment = operations.comment(&service.parent_file(), service.path());
        Object::new().with("name", service.full_name()).with_some("description", comment).into()
    };
    services.filter(|service| known.insert(service.full_name().to_owned())).map(&mut tag).collect()
}

#[cfg(test)]
mod tests;

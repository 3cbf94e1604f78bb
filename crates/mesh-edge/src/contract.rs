//! What is public: the HTTP rules of the contracts that this process serves, and the tables for their JSON.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context as _;
use http::StatusCode;
use mesh_rpc::call::error::DOMAIN;
use mesh_rpc::call::{Access, Method, Methods};
use mesh_runtime::executable;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use tonic::Code;
use transcode::openapi::{self, Answer, Bearer};
use transcode::{Binding, Matched, Miss, Routes, Schema, WireError};

use crate::example;
use crate::refusal::{STALE_REVISION, http_status};
use crate::shape::{REVISION, Shape};

/// The public part of the contracts.
pub(crate) struct Contract {
    pub(crate) schema: Schema,
    routes: Routes,
    /// In the order of the bindings.
    shapes: Vec<Shape>,
    methods: Methods,
}

impl Contract {
    /// Reads the rules of the gRPC services whose full names are in `served`. Each of `sets` is an encoded
    /// `google.protobuf.FileDescriptorSet`.
    ///
    /// # Errors
    ///
    /// A rule that cannot be served. The message is one line with all of them.
    pub(crate) fn read(sets: &[&[u8]], served: &BTreeSet<&str>, methods: &Methods) -> anyhow::Result<Self> {
        let mut pool = DescriptorPool::new();
        for set in sets {
            pool.decode_file_descriptor_set(*set).context("a compiled descriptor set cannot be read")?;
        }
        let services: Vec<_> = pool.services().filter(|service| served.contains(service.full_name())).collect();
        let public = services.iter().flat_map(|service| service.methods());
        let public = public.filter(|method| methods.find(&grpc_path(method)).access.is_public());
        let schema = Schema::new(&pool);
        let routes = Routes::new(&schema, public, REVISION).map_err(|errors| {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("the contracts have HTTP rules that cannot be served: {}", errors.join("; "))
        })?;
        let shapes = routes.bindings().iter().map(|binding| Shape::of(binding, methods)).collect();
        Ok(Self { schema, routes, shapes, methods: methods.clone() })
    }

    /// The OpenAPI document.
    pub(crate) fn openapi(&self) -> Vec<u8> {
        let authenticated = self.shapes.iter().zip(self.routes.bindings());
        let authenticated = authenticated.filter(|(shape, _)| shape.method.access == Access::Authenticated);
        let scopes: Vec<(_, Vec<_>)> = authenticated
            .map(|(shape, binding)| (&*binding.grpc_path, shape.method.scopes.iter().map(String::as_str).collect()))
            .collect();
        let methods: Vec<_> = scopes.iter().map(|(path, scopes)| (*path, &scopes[..])).collect();
        // The package of the contracts has the version of the project, and its process may be of any.
        let info = openapi::Info {
            title: "API",
            version: executable::VERSION,
            server: "",
            bearer: Bearer {
                methods: &methods,
                description: TOKEN,
                failures: &OF_TOKENS,
                scope_failures: &[(Code::PermissionDenied as i32, "SCOPE_MISSING")],
            },
            answer: answer_of,
            failures: &OF_ALL,
        };
        openapi::document(&self.routes, info)
    }

    /// The binding of a request.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(crate) fn find<'c>(self: &'c Arc<Self>, method: &str, path: &'c str) -> Result<(Route, Matched<'c>), Miss> {
        let matched = self.routes.find(method, path)?;
        Ok((Route { contract: Arc::clone(self), index: matched.index }, matched))
    }

    /// The arguments of curl, and the path and query, that make a call to the method of a gRPC path.
    pub(crate) fn curl(&self, path: &str, request: &str) -> Option<(String, String)> {
        let bindings = self.routes.bindings().iter().filter(|binding| binding.grpc_path == path);
        bindings.filter_map(|binding| example::curl(binding, request)).next()
    }

    /// The paths of all bindings.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.routes.bindings().iter().map(|binding| binding.path.as_str())
    }

    /// The methods behind GET that need neither a name nor a parameter, with their paths.
    pub(crate) fn reads(&self) -> impl Iterator<Item = (&'static Method, &str)> {
        let is_plain = |(_, binding): &(&Shape, &Binding)| {
            let streams = binding.method.is_server_streaming();
            binding.http_method == "GET" && !binding.path.contains('{') && !binding.needs_parameter() && !streams
        };
        let all = self.shapes.iter().zip(self.routes.bindings());
        all.filter(is_plain).map(|(shape, binding)| (shape.method, binding.path.as_str()))
    }

    /// The method that a gRPC path calls, if it is public.
    pub(crate) fn public(&self, path: &str) -> Option<&'static Method> {
        self.routes.bindings().iter().any(|binding| binding.grpc_path == path).then(|| self.methods.find(path))
    }
}

/// Failures that any method may have, as the document shows them: of the edge, and of the layers behind it.
const OF_ALL: [(i32, &str); 3] = [
    (Code::ResourceExhausted as i32, "RATE_LIMITED"),
    (Code::ResourceExhausted as i32, "OVERLOADED"),
    (Code::DeadlineExceeded as i32, "DEADLINE_EXCEEDED"),
];

/// What a token is, as the document says it.
const TOKEN: &str =
    "A JWT of an issuer that the server trusts. A server with `auth.mode = \"off\", its default, asks for none.";

/// Failures of methods that need a token.
const OF_TOKENS: [(i32, &str); 5] = [
    (Code::Unauthenticated as i32, "TOKEN_MISSING"),
    (Code::Unauthenticated as i32, "TOKEN_INVALID"),
    (Code::Unauthenticated as i32, "TOKEN_EXPIRED"),
    (Code::PermissionDenied as i32, "CALLER_NOT_ALLOWED"),
    (Code::Unavailable as i32, "ISSUER_UNAVAILABLE"),
];

/// Reasons that contracts of services name, and that mesh gives in their place.
const OF_MESH: [&str; 14] = [
    "CALLER_NOT_ALLOWED",
    "ISSUER_UNAVAILABLE",
    "SCOPE_MISSING",
    "TOKEN_EXPIRED",
    "TOKEN_INVALID",
    "TOKEN_MISSING",
    "ENDPOINT_UNREACHABLE",
    "MESSAGE_TOO_LARGE",
    "NO_ENDPOINTS",
    "OVERLOADED",
    "PEER_UNAVAILABLE",
    "RATE_LIMITED",
    "REQUEST_ID_REUSED",
    "DEADLINE_EXCEEDED",
];

/// How a failure that a contract names is answered.
fn answer_of(binding: &Binding, code: i32, reason: &str) -> Answer {
    let service = binding.method.parent_service().package_name().split('.').next().unwrap_or_default().to_owned();
    // The contracts that every service may serve are mesh's.
    let is_of_mesh = ["google", "mesh"].contains(&service.as_str()) || OF_MESH.contains(&reason);
    let mut statuses = vec![http_status(code, reason)];
    if reason == STALE_REVISION && binding.revision.is_some() {
        statuses.push(StatusCode::PRECONDITION_FAILED.as_u16());
    }
    Answer { statuses, domain: if is_of_mesh { DOMAIN.to_owned() } else { service } }
}

fn grpc_path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// A binding, for as long as an answer needs it.
pub(crate) struct Route {
    contract: Arc<Contract>,
    index: usize,
}

impl Route {
    pub(crate) fn binding(&self) -> &Binding {
        &self.contract.routes.bindings()[self.index]
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.contract.shapes[self.index]
    }

    /// The binding for a path that it matches.
    pub(crate) fn matched<'r>(&'r self, path: &'r str) -> Option<Matched<'r>> {
        self.contract.routes.find(&self.binding().http_method, path).ok()
    }

    /// Appends a response as JSON.
    pub(crate) fn json(&self, response: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
        self.binding().response(response, out)
    }
}

//! The method table: the methods of all contracts, read from encoded descriptor sets.
//!
//! Guarantees: a path outside of the contracts maps to the method `unknown`, so a client cannot create metric labels
//! (INV-10).
//!
//! See: decision 0019.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mesh_proto::mesh::options::v1 as options;
use prost::{DecodeError, Message as _};
pub use prost_types::method_options::IdempotencyLevel;

use super::descriptor::FileDescriptorSet;

/// The packages whose contracts every service may serve.
const SHARED: [&str; 2] = ["google", "mesh"];
/// The package of health and reflection, which every process serves.
const OF_PROCESSES: &str = "grpc";

/// An RPC, as its contract describes it.
#[derive(Debug)]
pub struct Method {
    /// The place of the method among all that the process has read. What is kept for each method is found by it.
    pub number: usize,
    /// The full name of the gRPC service: `catalog.v1.CatalogService`.
    pub service: &'static str,
    /// The name of the method: `GetTitle`.
    pub name: &'static str,
    /// The idempotency level in the contract. It decides whether a request that may have been received is retried.
    pub idempotency: IdempotencyLevel,
    /// The deadline for a call without one. `None`: the configured default applies.
    pub default_deadline: Option<Duration>,
    /// Whether the request is a stream.
    pub client_streaming: bool,
    /// Whether the response is a stream.
    pub server_streaming: bool,
    /// Whether a call mostly waits for an event and does no work: a stream, or a method with the option
    /// `mesh.options.v1.waits`.
    pub waits: bool,
    /// Whether a call of it is a call of gRPC.
    pub protocol: Protocol,
    /// The callers that the method is for, by the option `mesh.options.v1.authorization`.
    pub access: Access,
    /// The scopes that the token of a user needs, all of them. Only an authenticated method has some.
    pub scopes: &'static [String],
}

/// What a method is called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC, as its contract says.
    Grpc,
    /// HTTP, to a service without a contract for it.
    Http,
}

impl Method {
    /// The entry for what no contract has.
    pub fn unknown() -> &'static Self {
        &UNKNOWN
    }

    /// Whether a contract has the method.
    pub fn is_known(&self) -> bool {
        self.number != UNKNOWN.number
    }

    /// The first segment of its package, which is the name of the service that it belongs to. A shared contract belongs
    /// to none.
    pub fn package(&self) -> &'static str {
        self.service.split('.').next().unwrap_or_default()
    }

    /// Whether every service may serve the contract, as that of operations: its requests name the service.
    pub fn is_shared(&self) -> bool {
        SHARED.contains(&self.package())
    }

    /// Whether every process serves the contract for itself: health and reflection.
    pub fn is_of_processes(&self) -> bool {
        self.package() == OF_PROCESSES
    }
}

/// The two methods that stand for HTTP requests to a service, whose contract does not have them. They are for the
/// services of the mesh.
#[derive(Clone, Copy, Debug)]
pub struct HttpMethods {
    /// Requests that only read, and have no body: they may be repeated.
    pub read: &'static Method,
    /// All others.
    pub other: &'static Method,
}

impl HttpMethods {
    /// Those of `service`. They live as long as the process.
    pub fn of(service: &'static str) -> Self {
        let method = |name, reads: bool| {
            let method = Method {
                number: NEXT.fetch_add(1, Ordering::Relaxed),
                service,
                name,
                idempotency: if reads { IdempotencyLevel::NoSideEffects } else { IdempotencyLevel::IdempotencyUnknown },
                default_deadline: None,
                client_streaming: !reads,
                // A response may be of any length, and last as long as it likes.
                server_streaming: true,
                waits: true,
                protocol: Protocol::Http,
                access: Access::Internal,
                scopes: &[],
            };
            &*Box::leak(Box::new(method))
        };
        Self { read: method("HTTP read", true), other: method("HTTP", false) }
    }

    /// The one of a request.
    pub fn for_request<B: http_body::Body>(self, request: &http::Request<B>) -> &'static Method {
        let reads = matches!(*request.method(), http::Method::GET | http::Method::HEAD);
        if reads && request.body().is_end_stream() { self.read } else { self.other }
    }

    /// Both.
    pub fn all(self) -> [&'static Method; 2] {
        [self.read, self.other]
    }
}

/// The callers that a method is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The services of the mesh: the access of a method without the option.
    Internal,
    /// All callers.
    Public,
    /// Callers with an identity.
    Authenticated,
}

impl Access {
    /// Whether callers from outside of the mesh may know of the method.
    pub fn is_public(self) -> bool {
        matches!(self, Self::Public | Self::Authenticated)
    }
}

impl From<options::Access> for Access {
    fn from(access: options::Access) -> Self {
        match access {
            options::Access::Unspecified | options::Access::Internal => Self::Internal,
            options::Access::Public => Self::Public,
            options::Access::Authenticated => Self::Authenticated,
        }
    }
}

/// The entry for paths outside of the contracts.
static UNKNOWN: Method = Method {
    number: 0,
    service: "unknown",
    name: "unknown",
    idempotency: IdempotencyLevel::IdempotencyUnknown,
    default_deadline: None,
    client_streaming: false,
    server_streaming: false,
    waits: false,
    protocol: Protocol::Grpc,
    access: Access::Internal,
    scopes: &[],
};

/// The place of the next method among all that the process has read.
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// The contracts that every process serves.
pub const OWN: [&[u8]; 3] = [
    mesh_proto::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

/// The methods of all contracts of a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Methods {
    /// Keyed by the path of a request: `/catalog.v1.CatalogService/GetTitle`.
    by_path: Arc<HashMap<String, &'static Method>>,
}

impl Methods {
    /// Reads the methods of the system's contracts and of mesh's own. Each element of `system` is an encoded
    /// `google.protobuf.FileDescriptorSet`. A process calls this once, at its start: the entries live as long as the
    /// process.
    ///
    /// # Panics
    ///
    /// If a set does not decode. The sets are compiled in, so the build is broken then.
    #[expect(clippy::unwrap_used)]
    pub fn of(system: &[&[u8]]) -> Self {
        Self::read(system).unwrap()
    }

    /// As [`of`](Self::of), of sets that are read from files.
    ///
    /// # Errors
    ///
    /// A set does not decode.
    pub fn read(system: &[&[u8]]) -> Result<Self, DecodeError> {
        let mut by_path = HashMap::new();
        // The services of a process share one set.
        let sets: BTreeSet<_> = OWN.iter().chain(system).collect();
        for set in sets {
            collect(set, &mut by_path)?;
        }
        Ok(Self { by_path: Arc::new(by_path) })
    }

    /// The method of a path; `unknown` for a path outside of the contracts.
    pub fn find(&self, path: &str) -> &'static Method {
        self.by_path.get(path).copied().unwrap_or(&UNKNOWN)
    }

    /// The full names of the gRPC services of one service of the system: those whose package begins with its name.
    pub fn contracts_of(&self, service: &str) -> Vec<&'static str> {
        let own = self.by_path.values().filter(|method| method.package() == service);
        own.map(|method| method.service).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The methods of these contracts, and of those that every process serves, such as health.
    pub fn of_contracts(&self, contracts: &BTreeSet<&str>) -> impl Iterator<Item = &'static Method> {
        self.by_path.values().copied().filter(|method| contracts.contains(method.service) || method.is_of_processes())
    }

    /// The methods of a gRPC service, by its full name.
    pub fn of_contract(&self, contract: &str) -> impl Iterator<Item = &'static Method> {
        self.by_path.values().copied().filter(move |method| method.service == contract)
    }

    /// The full names of the gRPC services with a method that callers from outside of the mesh may know of.
    pub fn public_services(&self) -> BTreeSet<&'static str> {
        let public = self.by_path.values().filter(|method| method.access.is_public());
        public.map(|method| method.service).collect()
    }

    /// The names of the system's services: the first segments of the packages that declare a gRPC service, without
    /// `google`, `grpc` and `mesh`.
    pub fn services(&self) -> BTreeSet<&'static str> {
        let own = self.by_path.values().filter(|method| !method.is_shared() && !method.is_of_processes());
        own.map(|method| method.package()).collect()
    }
}

fn collect(set: &[u8], methods: &mut HashMap<String, &'static Method>) -> Result<(), DecodeError> {
    let set = FileDescriptorSet::decode(set)?;
    for file in set.files {
        for service in file.services {
            // The contracts bound the number of names, and the process needs them until it ends.
            let full: &'static str = format!("{}.{}", file.package, service.name).leak();
            for method in service.methods {
                let Entry::Vacant(vacant) = methods.entry(format!("/{full}/{}", method.name)) else { continue };
                let options = method.options.unwrap_or_default();
                let authorization = options.authorization.clone().unwrap_or_default();
                let method = Method {
                    number: NEXT.fetch_add(1, Ordering::Relaxed),
                    service: full,
                    idempotency: options.idempotency_level(),
                    default_deadline: options.default_deadline.and_then(|deadline| deadline.try_into().ok()),
                    client_streaming: method.client_streaming,
                    server_streaming: method.server_streaming,
                    waits: method.client_streaming || method.server_streaming || options.waits,
                    protocol: Protocol::Grpc,
                    access: authorization.access().into(),
                    scopes: authorization.scopes.leak(),
                    name: method.name.leak(),
                };
                vacant.insert(Box::leak(Box::new(method)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::descriptor;

    #[test]
    fn methods_have_their_idempotency_level() {
        let methods = Methods::of(&[]);
        let level = |name| methods.find(&format!("/google.longrunning.Operations/{name}")).idempotency;
        assert_eq!(level("GetOperation"), IdempotencyLevel::NoSideEffects);
        assert_eq!(level("CancelOperation"), IdempotencyLevel::Idempotent);
        assert_eq!(level("MadeUp"), IdempotencyLevel::IdempotencyUnknown);
    }

    #[test]
    fn methods_have_their_access() {
        let methods = Methods::of(&[]);
        let access = |path| methods.find(path).access;
        assert_eq!(access("/google.longrunning.Operations/GetOperation"), Access::Authenticated);
        assert_eq!(access("/grpc.health.v1.Health/Check"), Access::Internal);
        assert_eq!(access("/made.up.Service/Method"), Access::Internal);
        // A value of a later version is none that this one knows.
        let later = options::Authorization { access: 9, scopes: Vec::new() };
        assert_eq!(Access::from(later.access()), Access::Internal);
        assert_eq!(Access::from(options::Access::Public), Access::Public);
    }

    #[test]
    fn methods_have_the_scopes_of_their_contract() {
        let method = |access: options::Access, scopes: &[&str]| descriptor::Method {
            name: format!("{access:?}"),
            options: Some(descriptor::Options {
                authorization: Some(options::Authorization {
                    access: access.into(),
                    scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
                }),
                ..descriptor::Options::default()
            }),
            ..descriptor::Method::default()
        };
        let methods = vec![
            method(options::Access::Authenticated, &["test.read", "test.write"]),
            method(options::Access::Public, &[]),
        ];
        let service = descriptor::Service { name: "TestService".to_owned(), methods };
        let file = descriptor::File { package: "test.v1".to_owned(), services: vec![service] };
        let methods = Methods::of(&[&FileDescriptorSet { files: vec![file] }.encode_to_vec()]);
        let scopes = |name| methods.find(&format!("/test.v1.TestService/{name}")).scopes;
        assert_eq!(scopes("Authenticated"), ["test.read", "test.write"]);
        assert!(scopes("Public").is_empty() && scopes("MadeUp").is_empty());
    }

    #[test]
    fn methods_that_wait_are_streams_and_those_with_the_option() {
        let methods = Methods::of(&[]);
        let waits = |path| methods.find(path).waits;
        assert!(waits("/google.longrunning.Operations/WaitOperation"));
        assert!(waits("/grpc.health.v1.Health/Watch"));
        assert!(!waits("/google.longrunning.Operations/GetOperation"));
    }

    #[test]
    fn methods_outside_of_the_contracts_are_unknown() {
        assert_eq!(Methods::of(&[]).find("/made.up.Service/Method").service, "unknown");
    }

    #[test]
    fn services_exclude_the_packages_of_mesh() {
        assert!(Methods::of(&[]).services().is_empty());
    }
}

//! The method table: what the contracts say of their services and methods, read from the descriptor sets that are handed
//! in, and from those of mesh itself.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
pub use prost_types::method_options::IdempotencyLevel;

use super::descriptor::Set;

/// One RPC, as its contract describes it.
#[derive(Debug)]
pub struct Method {
    /// The full name of its gRPC service: `catalog.v1.CatalogService`.
    pub service: &'static str,
    /// Its own name: `GetTitle`.
    pub name: &'static str,
    /// What its contract promises about repeated calls, and so whether a caller may retry it.
    pub idempotency: IdempotencyLevel,
    /// The deadline of a call to it whose caller has none; the configured one if this is not said.
    pub default_deadline: Option<Duration>,
    /// Whether it is asked with a stream.
    pub client_streaming: bool,
    /// Whether it answers with a stream.
    pub server_streaming: bool,
}

impl Method {
    /// Whether a call of it waits for something to happen instead of doing work.
    pub fn waits(&self) -> bool {
        self.server_streaming || self.client_streaming || self.name == "WaitOperation"
    }
}

/// The entry for a path that no contract knows: a client cannot invent metric labels.
static UNKNOWN: Method = Method {
    service: "unknown",
    name: "unknown",
    idempotency: IdempotencyLevel::IdempotencyUnknown,
    default_deadline: None,
    client_streaming: false,
    server_streaming: false,
};

/// The contracts that every process serves.
pub const OWN: [&[u8]; 4] = [
    mesh_proto::FILE_DESCRIPTOR_SET,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

/// The methods of all contracts that a process knows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Methods {
    /// By path, as gRPC sends it: `/catalog.v1.CatalogService/GetTitle`.
    by_path: Arc<HashMap<String, &'static Method>>,
}

impl Methods {
    /// Those of the system, each an encoded `google.protobuf.FileDescriptorSet`, and those of mesh. The table is read
    /// once, when a process starts, and its entries live as long as the process.
    ///
    /// # Panics
    ///
    /// If a set does not decode: sets are compiled in, so the build is broken.
    pub fn of(system: &[&[u8]]) -> Self {
        let mut by_path = HashMap::new();
        for set in OWN.iter().chain(system) {
            collect(set, &mut by_path);
        }
        Self { by_path: Arc::new(by_path) }
    }

    /// The method behind a path; one that no contract knows is `unknown`.
    pub fn find(&self, path: &str) -> &'static Method {
        self.by_path.get(path).copied().unwrap_or(&UNKNOWN)
    }

    /// The names of the system's services: the first segment of each package that declares a gRPC service, but for
    /// the packages that every system has.
    pub fn services(&self) -> BTreeSet<&'static str> {
        let packages = self.by_path.values().filter_map(|method| method.service.split('.').next());
        packages.filter(|package| !["google", "grpc", "mesh"].contains(package)).collect()
    }
}

fn collect(set: &[u8], methods: &mut HashMap<String, &'static Method>) {
    // The sets are compiled in: one that does not decode is a broken build, seen by every test.
    #[expect(clippy::unwrap_used)]
    let set = Set::decode(set).unwrap();
    for file in set.files {
        for service in file.services {
            // Bounded by the contracts, and wanted for as long as the process lives.
            let full: &'static str = format!("{}.{}", file.package, service.name).leak();
            for method in service.methods {
                let options = method.options.unwrap_or_default();
                let path = format!("/{full}/{}", method.name);
                let method = Method {
                    service: full,
                    idempotency: options.idempotency_level(),
                    default_deadline: options.default_deadline.and_then(|deadline| deadline.try_into().ok()),
                    client_streaming: method.client_streaming,
                    server_streaming: method.server_streaming,
                    name: method.name.leak(),
                };
                methods.entry(path).or_insert_with(|| Box::leak(Box::new(method)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_of_a_method_can_be_read() {
        let methods = Methods::of(&[]);
        let level = |name| methods.find(&format!("/google.longrunning.Operations/{name}")).idempotency;
        assert_eq!(level("GetOperation"), IdempotencyLevel::NoSideEffects);
        assert_eq!(level("CancelOperation"), IdempotencyLevel::Idempotent);
        assert_eq!(level("MadeUp"), IdempotencyLevel::IdempotencyUnknown);
    }

    #[test]
    fn what_no_contract_knows_is_unknown() {
        assert_eq!(Methods::of(&[]).find("/made.up.Service/Method").service, "unknown");
    }

    #[test]
    fn everybodys_packages_are_no_services() {
        assert!(Methods::of(&[]).services().is_empty());
    }
}

//! What the contracts say about themselves, read once from the descriptor set: which services and methods there are,
//! and what may be done with each.

mod descriptor;

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;
use std::time::Duration;

use prost::Message as _;
pub use prost_types::method_options::IdempotencyLevel;

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
    pub(crate) fn waits(&self) -> bool {
        self.server_streaming || self.client_streaming || self.name == "WaitOperation"
    }
}

/// What is said of a path that no contract knows, so that a stranger cannot invent metric labels.
static UNKNOWN: Method = Method {
    service: "unknown",
    name: "unknown",
    idempotency: IdempotencyLevel::IdempotencyUnknown,
    default_deadline: None,
    client_streaming: false,
    server_streaming: false,
};

/// By path, as gRPC sends it: `/catalog.v1.CatalogService/GetTitle`.
static METHODS: LazyLock<HashMap<String, Method>> = LazyLock::new(|| {
    let mut methods = HashMap::new();
    for set in [
        contracts::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        collect(set, &mut methods);
    }
    methods
});

/// Finds the method behind a path; a path that no contract knows is `unknown`.
pub fn method(path: &str) -> &'static Method {
    METHODS.get(path).unwrap_or(&UNKNOWN)
}

/// The names of the services of this system: the first segment of every package under `proto/` that declares a gRPC
/// service, except the packages that belong to everybody.
pub(crate) fn services() -> BTreeSet<&'static str> {
    let packages = METHODS.values().filter_map(|method| method.service.split('.').next());
    packages.filter(|package| !["google", "grpc", "mesh"].contains(package)).collect()
}

fn collect(set: &[u8], methods: &mut HashMap<String, Method>) {
    // The sets are compiled in: one that does not decode is a broken build, seen by every test.
    #[expect(clippy::unwrap_used)]
    let set = descriptor::Set::decode(set).unwrap();
    for file in set.files {
        for service in file.services {
            // Bounded by the contracts, and wanted for as long as the process lives.
            let full: &'static str = format!("{}.{}", file.package, service.name).leak();
            for method in service.methods {
                let options = method.options.unwrap_or_default();
                methods.insert(
                    format!("/{full}/{}", method.name),
                    Method {
                        service: full,
                        idempotency: options.idempotency_level(),
                        default_deadline: options.default_deadline.and_then(|deadline| deadline.try_into().ok()),
                        client_streaming: method.client_streaming,
                        server_streaming: method.server_streaming,
                        name: method.name.leak(),
                    },
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_of_a_method_can_be_read() {
        let level = |name| method(&format!("/google.longrunning.Operations/{name}")).idempotency;
        assert_eq!(level("GetOperation"), IdempotencyLevel::NoSideEffects);
        assert_eq!(level("CancelOperation"), IdempotencyLevel::Idempotent);
        assert_eq!(level("MadeUp"), IdempotencyLevel::IdempotencyUnknown);
    }

    #[test]
    fn what_no_contract_knows_is_unknown() {
        assert_eq!(method("/made.up.Service/Method").service, "unknown");
    }

    #[test]
    fn everybodys_packages_are_no_services() {
        for package in ["google", "grpc", "mesh"] {
            assert!(!services().contains(package));
        }
    }
}

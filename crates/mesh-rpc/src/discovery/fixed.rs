//! Instances that do not change while a process runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::client::{Endpoints, Instance};

/// A source that is known when the process starts.
pub(super) enum Fixed {
    /// There are no other processes.
    Nowhere,
    /// The addresses of services, by name.
    At(BTreeMap<String, Vec<SocketAddr>>),
}

/// Sets the instances of `service`, and warns if there are none.
pub(super) fn follow(fixed: &Fixed, service: &'static str, endpoints: &Endpoints) {
    let addresses = match fixed {
        Fixed::Nowhere => {
            tracing::warn!(service, "this process calls a service whose address is not configured: set `registry`");
            &[][..]
        }
        Fixed::At(addresses) => {
            let addresses = addresses.get(service).map(Vec::as_slice).unwrap_or_default();
            if addresses.is_empty() {
                tracing::warn!(
                    service,
                    "this process calls a service whose address is not configured: set `static.{service}`"
                );
            }
            addresses
        }
    };
    let instance = |address: &SocketAddr| {
        // An IP address and a port are always an authority.
        let authority = address.to_string().parse().ok()?;
        Some(Instance { authority, weight: 1 })
    };
    endpoints.set(&addresses.iter().filter_map(instance).collect::<Vec<_>>());
}

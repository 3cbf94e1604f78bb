//! Instances that are known when the process starts.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::client::{Endpoints, Instance};

/// A source that does not change.
pub(super) enum Fixed {
    /// There are no other processes.
    Local,
    /// The addresses of each service.
    Static(BTreeMap<String, Vec<SocketAddr>>),
}

/// Sets the instances of `service`, and warns if there are none.
pub(super) fn follow(fixed: &Fixed, service: &'static str, endpoints: &Endpoints) {
    let addresses = match fixed {
        Fixed::Local => {
            tracing::warn!(
                service,
                "the address of a service that this process calls is not configured: set `registry`"
            );
            &[][..]
        }
        Fixed::Static(addresses) => {
            let addresses = addresses.get(service).map(Vec::as_slice).unwrap_or_default();
            if addresses.is_empty() {
                tracing::warn!(
                    service,
                    "the address of a service that this process calls is not configured: set `static.{service}`"
                );
            }
            addresses
        }
    };
    let instance = |address: &SocketAddr| {
        // An IP address and a port always form an authority.
        let authority = address.to_string().parse().ok()?;
        Some(Instance { authority, weight: 1 })
    };
    endpoints.set(&addresses.iter().filter_map(instance).collect::<Vec<_>>());
}

//! The trait of a source of instances.

use super::endpoints::Endpoints;

/// Finds the instances of services in other processes.
pub trait Discover: Send + Sync {
    /// Keeps `endpoints` set to the instances of `service`, in the background. Called once for each service.
    fn follow(&self, service: &'static str, endpoints: Endpoints);
}

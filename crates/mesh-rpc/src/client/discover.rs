//! What a source of instances implements.

use super::endpoints::Endpoints;

/// Knows where the instances of other processes' services are.
pub trait Discover: Send + Sync {
    /// Keeps `endpoints` set to the instances of `service`, from now on and in the background. Called once a service.
    fn follow(&self, service: &'static str, endpoints: Endpoints);
}

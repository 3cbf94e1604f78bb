//! Whether a caller may make a call, by the access of its method.
//!
//! | access | who may |
//! |---|---|
//! | public | all callers |
//! | authenticated | users with all scopes, and services of the mesh that call as themselves |
//! | internal | services of the mesh, for users or as themselves |
//!
//! Methods of mesh itself that are internal are also for users with the scope `mesh.operator`. Health is for all.

use super::denied::Denied;
use crate::call::{Access, Caller, Method, OPERATOR};

/// The service that agents and balancers ask without an identity.
const HEALTH: &str = "grpc.health.v1.Health";
const REFLECTION: &str = "grpc.reflection.";
/// The packages of mesh.
const MESH: &str = "mesh.";

/// Whether a method is for all whatever else is decided: health, and what no contract has, which is answered as
/// unknown.
pub(super) fn is_for_all(method: &Method) -> bool {
    method.service == HEALTH || method.number == 0
}

/// Decides a call of `caller`. `service` has made it, if that is known. `shows_contracts`: reflection is for all.
pub(super) fn decide(
    method: &'static Method,
    caller: &Caller,
    service: Option<&str>,
    shows_contracts: bool,
) -> Result<(), Denied> {
    if shows_contracts && method.service.starts_with(REFLECTION) {
        return Ok(());
    }
    match method.access {
        Access::Public => Ok(()),
        Access::Authenticated => match caller.as_user() {
            Some(user) => {
                let missing = method.scopes.iter().find(|scope| !user.scopes.contains(scope.as_str()));
                missing.map_or(Ok(()), |scope| Err(Denied::ScopeMissing(scope)))
            }
            None if caller.is_anonymous() => Err(Denied::TokenMissing),
            None => Ok(()),
        },
        Access::Internal if service.is_some() => Ok(()),
        Access::Internal if is_for_operators(method) => match caller.as_user() {
            Some(_) if caller.is_operator() => Ok(()),
            Some(_) => Err(Denied::ScopeMissing(OPERATOR)),
            None => Err(Denied::TokenMissing),
        },
        Access::Internal => Err(Denied::CallerNotAllowed),
    }
}

fn is_for_operators(method: &Method) -> bool {
    method.service.starts_with(MESH) || method.service.starts_with(REFLECTION)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use mesh_token::User;

    use super::*;
    use crate::call::{IdempotencyLevel, Protocol};

    fn method(service: &'static str, access: Access, scopes: &[&str]) -> &'static Method {
        let scopes: Vec<_> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        Box::leak(Box::new(Method {
            number: 1,
            service,
            name: "Do",
            idempotency: IdempotencyLevel::IdempotencyUnknown,
            default_deadline: None,
            client_streaming: false,
            server_streaming: false,
            waits: false,
            protocol: Protocol::Grpc,
            access,
            scopes: scopes.leak(),
        }))
    }

    fn user(scopes: &[&str]) -> Caller {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let (issuer, subject) = ("https://a.test".to_owned(), "alice".to_owned());
        Caller::user(Arc::new(User { issuer, subject, scopes, until: SystemTime::now() }))
    }

    /// The decision of a call by nobody, by users without and with scopes, by a service as itself, and by one for a
    /// user.
    fn decisions(method: &'static Method) -> [&'static str; 5] {
        let decide = |caller: Caller, service| match super::decide(method, &caller, service, false) {
            Ok(()) => "",
            Err(denied) => denied.reason(),
        };
        [
            decide(Caller::default(), None),
            decide(user(&[]), None),
            decide(user(&["a", "b", OPERATOR]), None),
            decide(Caller::service("tv"), Some("tv")),
            decide(user(&[]), Some("tv")),
        ]
    }

    #[test]
    fn calls_are_decided_by_access_caller_and_service() {
        let (missing, scope, not_allowed) = ("TOKEN_MISSING", "SCOPE_MISSING", "CALLER_NOT_ALLOWED");
        let public = method("catalog.v1.CatalogService", Access::Public, &[]);
        assert_eq!(decisions(public), [""; 5]);
        let authenticated = method("catalog.v1.CatalogService", Access::Authenticated, &[]);
        assert_eq!(decisions(authenticated), [missing, "", "", "", ""]);
        let scoped = method("catalog.v1.CatalogService", Access::Authenticated, &["a", "b"]);
        assert_eq!(decisions(scoped), [missing, scope, "", "", scope]);
        let internal = method("catalog.v1.CatalogService", Access::Internal, &[]);
        assert_eq!(decisions(internal), [not_allowed, not_allowed, not_allowed, "", ""]);
        for mesh in ["mesh.events.v1.FollowersService", "grpc.reflection.v1.ServerReflection"] {
            assert_eq!(decisions(method(mesh, Access::Internal, &[])), [missing, scope, "", "", ""]);
        }
        assert!(is_for_all(method(HEALTH, Access::Internal, &[])) && !is_for_all(internal));
    }

    #[test]
    fn reflection_that_is_open_is_for_all() {
        let reflection = method("grpc.reflection.v1.ServerReflection", Access::Internal, &[]);
        assert_eq!(decide(reflection, &Caller::default(), None, true), Ok(()));
        let internal = method("catalog.v1.CatalogService", Access::Internal, &[]);
        assert_eq!(decide(internal, &Caller::default(), None, true), Err(Denied::CallerNotAllowed));
    }
}

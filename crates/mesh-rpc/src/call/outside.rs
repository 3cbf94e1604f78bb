//! The headers that a caller outside of the mesh must not send: what they say is the mesh's to say.
//!
//! Guarantees: a header whose name has an underscore is removed, too. Programs behind a CGI-like interface read
//! `x_mesh_user` as `x-mesh-user`.

use http::{HeaderMap, HeaderName};

use super::consistency::MESH_CONSISTENCY;

/// A name that only proxies set, with the certificate of their client.
const CLIENT_CERTIFICATE: &str = "x-forwarded-client-cert";
/// How the names of the mesh's headers begin.
const OF_MESH: [&str; 2] = ["mesh-", "x-mesh-"];

/// Removes the headers that only the mesh sets.
pub fn strip(headers: &mut HeaderMap) {
    let reserved: Vec<_> = headers.keys().filter(|name| is_reserved(name)).cloned().collect();
    for name in reserved {
        headers.remove(name);
    }
}

fn is_reserved(name: &HeaderName) -> bool {
    let text = name.as_str();
    let of_mesh = OF_MESH.iter().any(|prefix| text.starts_with(prefix)) && *name != MESH_CONSISTENCY;
    of_mesh || text == CLIENT_CERTIFICATE || text.contains('_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn headers_of_the_mesh_are_removed() {
        let kept = ["authorization", "traceparent", "mesh-consistency", "x-request-id", "x-forwarded-for", "meshed"];
        let removed =
            ["mesh-cause", "mesh-passport", "x-mesh-user", "x-forwarded-client-cert", "x_mesh_user", "mesh_passport"];
        let mut headers = HeaderMap::new();
        for name in kept.iter().chain(&removed) {
            for value in ["a", "b"] {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
        }
        strip(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<std::collections::BTreeSet<_>>(), kept.into());
        assert_eq!(headers.len(), 2 * kept.len());
    }
}

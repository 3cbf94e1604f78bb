//! The `user-agent` of calls between services, which names the one that calls: `grpc-rust-mesh/0.1.0 (artwork)`.
//!
//! It is for display, to a process whose callers have no certificate. Any client may send any name.

use http::HeaderValue;

/// The name in calls of a dashboard.
pub const DASHBOARD: &str = "dashboard";

const PRODUCT: &str = "grpc-rust-mesh/";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The longest name of a service that is read.
const LONGEST: usize = 64;
/// The longest value of a caller that is passed on.
const LONGEST_GIVEN: usize = 1024;

/// The value for calls of `service`.
pub(crate) fn of(service: &str) -> HeaderValue {
    let named =
        if is_name(service) { format!("{PRODUCT}{VERSION} ({service})") } else { format!("{PRODUCT}{VERSION}") };
    // A product and such a name are always a valid value.
    HeaderValue::from_str(&named).unwrap_or(HeaderValue::from_static("grpc-rust-mesh"))
}

/// The value for a call that comes with one: that of an app beside a sidecar, or of a request that a handler passes on.
/// It stays, and `own` is appended in place of an earlier one: the service that calls is the last one named.
pub(crate) fn appended(given: &HeaderValue, own: &HeaderValue) -> HeaderValue {
    let joined = given.to_str().ok().zip(own.to_str().ok()).map(|(given, own)| {
        let before = given.find(PRODUCT).map_or(given, |at| &given[..at]).trim_end();
        if before.is_empty() { own.to_owned() } else { format!("{before} {own}") }
    });
    let joined = joined.filter(|joined| joined.len() <= LONGEST_GIVEN);
    joined.and_then(|joined| HeaderValue::from_str(&joined).ok()).unwrap_or_else(|| given.clone())
}

/// The service that a value names.
pub(super) fn service(agent: &str) -> Option<&str> {
    let (_, product) = agent.rsplit_once(PRODUCT)?;
    let (_, comment) = product.split_once(" (")?;
    // A client of tonic appends its own product.
    let (name, _) = comment.split_once(')')?;
    is_name(name).then_some(name)
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    (1..=LONGEST).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_names_the_service_that_calls() {
        let own = of("artwork");
        assert_eq!(service(own.to_str().unwrap()), Some("artwork"));
        assert_eq!(service("grpc-rust-mesh/1 (artwork) tonic/0.14"), Some("artwork"));
        assert_eq!(service(of("A b)(").to_str().unwrap()), None);
        let given = HeaderValue::from_static("grpc-python/1.60 grpc-c/37.0 (linux; chttp2)");
        let appended_to = |given: &HeaderValue| appended(given, &own).to_str().unwrap().to_owned();
        let expected = format!("grpc-python/1.60 grpc-c/37.0 (linux; chttp2) {}", own.to_str().unwrap());
        assert_eq!((appended_to(&given), service(&expected)), (expected.clone(), Some("artwork")));
        // Of a handler that passes on the headers of its own caller.
        assert_eq!(appended_to(&of("library")), own.to_str().unwrap());
        assert_eq!(appended_to(&expected.parse().unwrap()), expected);
        let long = HeaderValue::from_str(&"a".repeat(LONGEST_GIVEN)).unwrap();
        assert_eq!(appended(&long, &own), long);
    }

    #[test]
    fn agent_of_anything_else_names_no_service() {
        let long = format!("grpc-rust-mesh/1 ({})", "a".repeat(LONGEST + 1));
        for agent in [
            "",
            "grpc-rust-mesh/1",
            "grpc-rust-mesh/1 ()",
            "grpc-rust-mesh/1 (Artwork)",
            "grpc-rust-mesh/1 (art work)",
            "grpc-rust-mesh/1 (<img>)",
            "Mozilla/5.0 (artwork)",
            &long,
        ] {
            assert_eq!(service(agent), None, "{agent}");
        }
    }
}

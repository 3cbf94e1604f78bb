//! An example call as a line for a terminal.

use serde_json::{Map, Value};
use transcode::{Binding, Body};

/// The arguments of curl that make a call with this request, and its path and query. `None`: the path needs a field, or
/// the body is no JSON document.
pub(crate) fn curl(binding: &Binding, request: &str) -> Option<(String, String)> {
    if binding.path.contains('{') {
        return None;
    }
    match (&binding.body, binding.http_method.as_str()) {
        (Body::Whole, "POST") => {
            Some((format!("-H 'Content-Type: application/json' -d '{request}' "), binding.path.clone()))
        }
        (Body::None, "GET") => Some((String::new(), format!("{}{}", binding.path, query(request)?))),
        _ => None,
    }
}

/// The fields of a flat request as a query. `None`: it has others.
fn query(request: &str) -> Option<String> {
    let fields: Map<String, Value> = serde_json::from_str(request).ok()?;
    let pairs = fields.iter().map(|(name, value)| match value {
        Value::Number(number) => Some(format!("{name}={number}")),
        Value::Bool(is) => Some(format!("{name}={is}")),
        _ => None,
    });
    let pairs = pairs.collect::<Option<Vec<_>>>()?;
    Some(if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_requests_become_a_query() {
        assert_eq!(query(r#"{"page_size": 10}"#).as_deref(), Some("?page_size=10"));
        assert_eq!(query("{}").as_deref(), Some(""));
        assert_eq!(query(r#"{"name": "a b"}"#), None, "it would need an encoding");
        assert_eq!(query(r#"{"title": {}}"#), None);
    }
}

//! Encodes and decodes values in Consul's formats.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

/// Formats a duration as Go does. Rounds up to a millisecond, because Consul reads "0ms" as its default.
pub(crate) fn go_duration(duration: Duration) -> String {
    format!("{}ms", duration.as_nanos().div_ceil(1_000_000))
}

pub(crate) fn duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&go_duration(*duration))
}

pub(crate) fn optional_duration<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => duration(value, serializer),
        None => serializer.serialize_none(),
    }
}

/// Reads `null`, which Go writes for an empty collection, as the default.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Percent-encodes one path segment or query value.
pub(crate) fn encode(text: &str) -> String {
    escape(text, "-._~")
}

/// Percent-encodes a path and keeps its slashes.
pub(crate) fn encode_path(text: &str) -> String {
    escape(text, "-._~/")
}

fn escape(text: &str, keep: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || keep.as_bytes().contains(&byte) {
            escaped.push(byte.into());
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{encode, encode_path, go_duration};

    #[test]
    fn durations_round_up_to_a_millisecond() {
        assert_eq!(go_duration(Duration::from_secs(60)), "60000ms");
        assert_eq!(go_duration(Duration::from_micros(1)), "1ms");
    }

    #[test]
    fn encode_escapes_every_delimiter() {
        assert_eq!(encode("a/b?c&d=ü e"), "a%2Fb%3Fc%26d%3D%C3%BC%20e");
        assert_eq!(encode_path("jobs/a b"), "jobs/a%20b");
    }
}

//! A host and a port as a URL has them.

/// A host and a port as a URL has them. Consul has IPv6 addresses without brackets, or as somebody else wrote them.
pub fn host_port(host: &str, port: u16) -> String {
    let bare = host.contains(':') && !host.starts_with('[');
    if bare { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::host_port;

    #[test]
    fn an_ipv6_address_has_brackets_once() {
        let hosts = ["10.0.0.7", "a.internal", "fd00::1", "[fd00::1]"].map(|host| host_port(host, 1));
        assert_eq!(hosts, ["10.0.0.7:1", "a.internal:1", "[fd00::1]:1", "[fd00::1]:1"]);
    }
}

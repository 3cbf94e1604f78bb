//! Formats network addresses.

/// Formats `host:port` as in a URL: an IPv6 address gets brackets unless it already has them.
pub fn host_port(host: &str, port: u16) -> String {
    let bare = host.contains(':') && !host.starts_with('[');
    if bare { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::host_port;

    #[test]
    fn host_port_puts_brackets_around_ipv6_once() {
        let hosts = ["10.0.0.7", "a.internal", "fd00::1", "[fd00::1]"].map(|host| host_port(host, 1));
        assert_eq!(hosts, ["10.0.0.7:1", "a.internal:1", "[fd00::1]:1", "[fd00::1]:1"]);
    }
}

//! The identity of a client, for limits: its address, or the address that a trusted proxy reports.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
use mesh_rpc::call::Connection;

/// The header that proxies append the address of their client to.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// A network, such as `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: u128,
    /// How many of the first bits of an address count.
    bits: u32,
}

impl Network {
    /// Reads an address, or an address and the number of its first bits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
        (bits <= most).then(|| Self { address: number(address), bits: bits + 128 - most })
    }

    fn contains(self, address: IpAddr) -> bool {
        (number(address) ^ self.address).checked_shr(128 - self.bits).unwrap_or(0) == 0
    }
}

/// IPv4 addresses as IPv6 has them.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The client of a request: the last address that no trusted proxy has. What stands before it is what a client says of
/// itself.
pub(crate) fn of(connection: &Connection, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let Some(nearest) = connection.client() else { return Ipv6Addr::UNSPECIFIED.into() };
    let mut client = nearest.ip().to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let forwarded = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let forwarded: Vec<_> = forwarded.flat_map(|value| value.split(',')).collect();
    for address in forwarded.iter().rev() {
        match parse(address.trim()) {
            Some(address) if is_trusted(client) => client = address.to_canonical(),
            _ => break,
        }
    }
    one_network(client)
}

/// An address, as some proxies write it also with a port or in brackets.
fn parse(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.trim_matches(['[', ']']).parse().ok().or_else(with_port)
}

/// A client has a whole IPv6 network of 64 bits, and could use each of its addresses once.
fn one_network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use tokio_util::sync::CancellationToken;

    fn client(nearest: &str, forwarded: &'static str, trusted: &[&str]) -> String {
        let address = format!("{nearest}:1").parse().unwrap();
        let connection = Connection::new(CancellationToken::new(), Some(address), CancellationToken::new());
        let mut headers = HeaderMap::new();
        if !forwarded.is_empty() {
            headers.insert(FORWARDED_FOR, HeaderValue::from_static(forwarded));
        }
        let trusted: Vec<_> = trusted.iter().map(|text| Network::parse(text).unwrap()).collect();
        of(&connection, &headers, &trusted).to_string()
    }

    #[test]
    fn client_is_the_last_address_that_no_trusted_proxy_has() {
        assert_eq!(client("10.0.0.1", "", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", "1.1.1.1", &[]), "10.0.0.1", "a client says what it likes");
        assert_eq!(client("10.0.0.1", "1.1.1.1", &["10.0.0.0/8"]), "1.1.1.1");
        assert_eq!(client("10.0.0.1", "9.9.9.9, 1.1.1.1", &["10.0.0.0/8"]), "1.1.1.1");
        assert_eq!(client("10.0.0.1", "1.1.1.1, 10.0.0.2", &["10.0.0.0/8"]), "1.1.1.1", "two proxies");
        assert_eq!(client("10.0.0.1", "1.1.1.1, x", &["10.0.0.0/8"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", "1.1.1.1:5678", &["10.0.0.0/8"]), "1.1.1.1");
        assert_eq!(client("10.0.0.1", "[2001:db8::1]", &["10.0.0.0/8"]), "2001:db8::");
        assert_eq!(client("[2001:db8::1:2:3:4]", "", &[]), "2001:db8::");
    }

    #[test]
    fn network_has_an_address_and_perhaps_bits() {
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "a", "10.0.0.0/"] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
        let all = Network::parse("::/0").unwrap();
        assert!(all.contains("1.2.3.4".parse().unwrap()) && all.contains("::1".parse().unwrap()));
        assert!(!Network::parse("10.0.0.0/8").unwrap().contains("11.0.0.1".parse().unwrap()));
    }
}

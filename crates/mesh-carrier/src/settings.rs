//! The setting `nats.url`: the servers that events are published to.

use std::fmt;

use async_nats::ServerAddr;
use mesh_runtime::settings::{Key, Settings};

/// The servers of one NATS cluster. Their URLs may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Servers(pub(super) Vec<ServerAddr>);

/// Hides the URLs, which may hold a password.
impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Servers").finish_non_exhaustive()
    }
}

/// The hosts and their ports.
impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, server) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            // An IPv6 address comes without its brackets.
            let (host, port) = (server.host(), server.port());
            if host.contains(':') {
                write!(f, "{separator}[{host}]:{port}")?;
            } else {
                write!(f, "{separator}{host}:{port}")?;
            }
        }
        Ok(())
    }
}

impl Servers {
    /// Reads `nats.url`; `None` if it is not set, and events are published to no broker.
    pub fn take(settings: &mut Settings) -> Option<Self> {
        let allowed = "nats://HOST:PORT or tls://HOST:PORT, with USER:PASSWORD@ if needed; several separated by commas";
        settings.optional(&Key::new("nats.url", allowed).secret(), Self::parse)
    }

    /// Reads URLs that are separated by commas.
    pub fn parse(text: &str) -> Option<Self> {
        let servers = text.split(',').map(str::trim).map(|server| {
            let known = ["nats://", "tls://"].iter().any(|scheme| server.starts_with(scheme));
            server.parse::<ServerAddr>().ok().filter(|server| known && !server.host().is_empty())
        });
        servers.collect::<Option<_>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_urls_of_nats() {
        for (text, shown) in [
            ("nats://127.0.0.1:4333", "127.0.0.1:4333"),
            ("tls://user:secret@one.example:4222, nats://two.example", "one.example:4222, two.example:4222"),
            ("nats://[::1]", "[::1]:4222"),
        ] {
            let servers = Servers::parse(text).unwrap();
            assert_eq!(servers.to_string(), shown);
            assert!(!format!("{servers:?}").contains("secret"));
        }
        for wrong in ["", "127.0.0.1:4222", "http://127.0.0.1:4222", "ws://127.0.0.1", "nats://a,", "nats://"] {
            assert!(Servers::parse(wrong).is_none(), "{wrong}");
        }
    }
}

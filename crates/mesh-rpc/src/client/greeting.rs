//! A stream without TLS whose first bytes from the peer are looked at: the frame SETTINGS of HTTP/2, or something else.
//!
//! A server of HTTP/2 sends SETTINGS before anything else. A peer that sends other bytes has understood no request, so
//! that each one counts as not sent.
//!
//! See: [RFC 9113, 3.4](https://www.rfc-editor.org/rfc/rfc9113#section-3.4)

use std::io;
use std::sync::{Arc, OnceLock};

use super::watched::{Watch, Watched};

/// The bytes that are looked at: the fourth is the type of a frame.
const HEAD: usize = 4;
/// The type of SETTINGS.
const SETTINGS: u8 = 4;
/// The types of records of TLS that a server begins with: an alert, and a handshake.
const TLS: [u8; 2] = [21, 22];

/// What a peer has sent instead of HTTP/2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Foreign {
    /// A record of TLS, or HTTP/1.1, as this mesh answers a client without TLS.
    #[error("the peer speaks TLS or HTTP/1.1, and this process plaintext HTTP/2: tls.mode must be the same in both")]
    Tls,
    /// Anything else.
    #[error("the peer does not speak HTTP/2: it may be another program")]
    Unknown,
}

/// The outcome of the look at the first bytes: empty while they are those of HTTP/2.
pub(super) type Greeted = Arc<OnceLock<Foreign>>;

/// The first bytes, which are looked at.
pub(super) struct Greeting {
    head: Vec<u8>,
    foreign: Greeted,
}

impl Greeting {
    /// The stream, and the outcome.
    pub(super) fn of<I>(stream: I) -> (Watched<I, Self>, Greeted) {
        let foreign = Greeted::default();
        let watch = Self { head: Vec::with_capacity(HEAD), foreign: Arc::clone(&foreign) };
        (Watched { stream, watch }, foreign)
    }
}

impl Watch for Greeting {
    fn read(&mut self, outcome: io::Result<()>, bytes: &[u8]) -> io::Result<()> {
        outcome?;
        let missing = HEAD.saturating_sub(self.head.len());
        if missing == 0 {
            return Ok(());
        }
        self.head.extend(bytes.iter().take(missing));
        match foreign(&self.head) {
            Some(foreign) => {
                let _ = self.foreign.set(foreign.clone());
                Err(io::Error::new(io::ErrorKind::InvalidData, foreign))
            }
            None => Ok(()),
        }
    }
}

/// What the first bytes are, if they are not those of HTTP/2.
fn foreign(head: &[u8]) -> Option<Foreign> {
    match head {
        [_, _, _, SETTINGS, ..] => None,
        // The version of a record is 3.1 or 3.3.
        [first, 3, _, _, ..] if TLS.contains(first) => Some(Foreign::Tls),
        b"HTTP" => Some(Foreign::Tls),
        [_, _, _, _, ..] => Some(Foreign::Unknown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test]
    async fn greeting_of_another_protocol_is_noticed() {
        let alert = [21, 3, 1, 0, 2, 2, 70];
        for (bytes, expected) in [
            (&[0, 0, 18, SETTINGS, 0, 0, 0, 0, 0][..], None),
            (&[22, 1, 0, SETTINGS, 0][..], None),
            (b"HTTP/1.1 400 Bad Request\r\n", Some(Foreign::Tls)),
            (&alert[..], Some(Foreign::Tls)),
            (b"SSH-2.0\r\n", Some(Foreign::Unknown)),
            (&[0, 0, 4, 3, 0][..], Some(Foreign::Unknown)),
        ] {
            let (near, mut far) = duplex(64);
            let (mut stream, foreign) = Greeting::of(near);
            for byte in bytes {
                far.write_u8(*byte).await.unwrap();
                // Byte by byte: they come in any number of packets.
                if stream.read_u8().await.is_err() {
                    break;
                }
            }
            assert_eq!(foreign.get(), expected.as_ref(), "{bytes:?}");
        }
    }
}

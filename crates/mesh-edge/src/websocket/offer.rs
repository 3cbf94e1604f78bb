//! The subprotocols that a client offers for its socket. A browser sends no header of a page's choice with a handshake,
//! so a page offers its token as `bearer.TOKEN`, beside the subprotocol that it speaks.
//!
//! Guarantees: an answer chooses no token, so a token is in no head that a server sends.

use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue};

/// The subprotocol of all sockets.
pub(super) const JSON: &str = "mesh.json";
/// The beginning of an offer that is a token.
const BEARER: &str = "bearer.";

/// What a client offers.
#[derive(Debug, Default)]
pub(super) struct Offer {
    /// The header `Authorization` for the token, if there is one.
    pub(super) token: Option<HeaderValue>,
    /// Whether the client offers [`JSON`].
    pub(super) speaks_json: bool,
}

impl Offer {
    /// # Errors
    ///
    /// Two tokens, or a token alone: a browser closes a socket whose answer chooses none of its offers.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, &'static str> {
        let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|line| line.to_str().ok());
        let mut offer = Self::default();
        for offered in lines.flat_map(|line| line.split(',')).map(str::trim) {
            offer.speaks_json |= offered == JSON;
            let Some(token) = offered.strip_prefix(BEARER) else { continue };
            let mut token = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| "the token is malformed")?;
            token.set_sensitive(true);
            if offer.token.replace(token).is_some() || headers.contains_key(AUTHORIZATION) {
                return Err("a socket has one token: in Authorization, or as one subprotocol bearer.TOKEN");
            }
        }
        if offer.token.is_some() && !offer.speaks_json {
            return Err("a token is offered beside the subprotocol that the client speaks: mesh.json");
        }
        Ok(offer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(lines: &[&'static str]) -> Result<Offer, &'static str> {
        let lines = lines.iter().map(|line| (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(line)));
        Offer::of(&lines.collect())
    }

    #[test]
    fn token_is_offered_beside_the_subprotocol() {
        for lines in [&["mesh.json, bearer.a.b.c"][..], &["bearer.a.b.c,mesh.json"], &["mesh.json", "bearer.a.b.c"]] {
            let offer = offer(lines).unwrap();
            let token = offer.token.unwrap();
            assert_eq!((token.as_bytes(), offer.speaks_json), (&b"Bearer a.b.c"[..], true), "{lines:?}");
            assert!(token.is_sensitive());
        }
        let plain = offer(&["chat, mesh.json"]).unwrap();
        assert!(plain.token.is_none() && plain.speaks_json);
        let none = offer(&[]).unwrap();
        assert!(none.token.is_none() && !none.speaks_json);
    }

    #[test]
    fn token_alone_and_two_tokens_are_refused() {
        for line in ["bearer.a", "bearer.a, chat", "mesh.json, bearer.a, bearer.b", "mesh.json, bearer.a, bearer.a"] {
            assert!(offer(&[line]).is_err(), "{line}");
        }
        let mut headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer a"))]);
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("mesh.json, bearer.a"));
        assert!(Offer::of(&headers).is_err());
    }
}

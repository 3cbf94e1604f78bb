//! A signed token in the compact form of RFC 7515: `header.payload.signature`.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use serde::Deserialize;

use crate::json;

/// The longest token, in bytes.
pub(crate) const MAX_LENGTH: usize = 8 * 1024;

/// The header. Other names are ignored, such as keys and their addresses: `jwk`, `jku`, `x5u`.
#[derive(Debug, Deserialize)]
pub(crate) struct Header {
    pub(crate) alg: String,
    #[serde(default, deserialize_with = "json::given")]
    pub(crate) kid: Option<String>,
    #[serde(default, deserialize_with = "json::given")]
    pub(crate) typ: Option<String>,
    /// Read in passports only.
    #[serde(default)]
    pub(crate) x5c: serde_json::Value,
    #[serde(default, deserialize_with = "json::present")]
    crit: bool,
    #[serde(default, deserialize_with = "json::present")]
    b64: bool,
}

/// A token whose signature has not been checked.
#[derive(Debug)]
pub(crate) struct Jws<'a> {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
    /// Header and payload as they came: the signature is of these.
    pub(crate) signed: &'a str,
    pub(crate) signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// # Errors
    ///
    /// Why the text is not such a token, or not one that this process may interpret.
    pub(crate) fn parse(token: &'a str) -> Result<Self, String> {
        if token.len() > MAX_LENGTH {
            return Err(format!("the token has {} bytes, more than {MAX_LENGTH}", token.len()));
        }
        let parts: Vec<_> = token.splitn(4, '.').collect();
        let [header, payload, signature] = parts[..] else {
            return Err("the token does not have three parts".to_owned());
        };
        let decode = |name: &str, part: &str| {
            BASE64_URL.decode(part).map_err(|error| format!("the {name} is not base64url ({error})"))
        };
        let read: Header =
            json::object(&decode("header", header)?).map_err(|error| format!("the header is {error}"))?;
        // Critical extensions must be understood (RFC 7515, 4.1.11), and none is. An unencoded payload is one of them,
        // which a careless issuer may not mark as critical.
        if read.crit || read.b64 {
            return Err("the header has an extension that is not supported: `crit` or `b64`".to_owned());
        }
        let (payload, signature) = (decode("payload", payload)?, decode("signature", signature)?);
        if signature.is_empty() {
            return Err("the token is not signed".to_owned());
        }
        let signed = &token[..token.rfind('.').unwrap_or_default()];
        Ok(Self { header: read, payload, signed, signature })
    }
}

/// The compact form, signed by `sign`.
pub(crate) fn compact<E>(
    header: &str,
    payload: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<String, E> {
    let mut token = BASE64_URL.encode(header);
    token.push('.');
    BASE64_URL.encode_string(payload, &mut token);
    let signature = sign(token.as_bytes())?;
    token.push('.');
    BASE64_URL.encode_string(signature, &mut token);
    Ok(token)
}

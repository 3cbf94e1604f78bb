//! The user of a token, and why a token is refused.

use std::collections::BTreeSet;
use std::time::SystemTime;

use ring::digest;

/// A user, as an issuer has named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The issuer: `iss`. A subject means something only together with it.
    pub issuer: String,
    /// The user at this issuer: `sub`.
    pub subject: String,
    /// The scopes of the token: `scope`, or `scp`.
    pub scopes: BTreeSet<String>,
    /// The end of the token: `exp`. A token is still accepted for the difference between two clocks,
    /// [`SKEW`](crate::tokens::SKEW), after it.
    pub until: SystemTime,
}

/// A name for logs: it tells users apart, and does not say who they are.
pub fn fingerprint(name: &str) -> String {
    let digest = digest::digest(&digest::SHA256, name.as_bytes());
    digest.as_ref().iter().take(6).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Why a token is not accepted. The texts are for the log only: they are not sent to a caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The token is not valid, and never will be.
    #[error("{0}")]
    Invalid(String),
    /// The token was valid until its end. A new one of the same issuer helps.
    #[error("the token has expired")]
    Expired,
    /// The keys of the issuer are not known at the moment. The same token may be accepted later.
    #[error("{0}")]
    Unavailable(String),
}

//! Tokens of users: the JWTs of issuers, and the passport that carries a user from process to process.
//!
//! Modules, in order of dependency: [`user`] has the user of a token, and why a token is refused; `jws` splits and
//! reads a signed token, `key` checks a signature, `jwks` is the set of keys of an issuer, `claims` has the rules for
//! its claims; [`cache`] remembers results; `place` is where keys are, `get` fetches them, `keys` keeps them fresh;
//! [`issuer`] and [`tokens`] are the way in. [`passport`] is signed by a process, [`development`] is an issuer for a
//! machine of a developer, whose files [`pem`] writes.
//!
//! Guarantees:
//! - The algorithm comes from the key, never from the token. Keys come from the issuer, never from the token.
//! - A token counts only with `iss`, `aud`, `sub`, `exp` and, if it has a type, `JWT` or `at+jwt`. Critical extensions
//!   are refused.
//! - Tokens make this process ask an issuer at most once in 30 s, or once in 1 s while it has no key of the issuer.
//!
//! Does not: know of calls, headers or configuration, or decide what a user may do.
//!
//! See: RFC 7515, RFC 7517, RFC 7519, RFC 8725, RFC 9068, decision 0042

pub mod cache;
mod claims;
pub mod development;
mod get;
pub mod issuer;
mod json;
mod jwks;
mod jws;
mod key;
mod keys;
pub mod passport;
pub mod pem;
mod place;
mod roca;
mod signature;
pub mod tokens;
mod url;
pub mod user;
#[cfg(test)]
mod vectors;

pub use cache::Cache;
pub use issuer::Issuer;
pub use keys::Freshness;
pub use passport::Passport;
pub use tokens::Tokens;
pub use user::{Refused, User, fingerprint};

//! Checks the tokens of users.

use std::sync::{Arc, Weak};
use std::time::SystemTime;

use tokio::task::JoinSet;

pub use crate::claims::SKEW;

use crate::cache::Cache;
use crate::claims::Claims;
use crate::issuer::Issuer;
use crate::jws::{Header, Jws};
use crate::key::Key;
use crate::keys::{Freshness, Keys};
use crate::user::{Refused, User};

/// The most tokens that are remembered.
const REMEMBERED: usize = 16 * 1024;

/// Checks the tokens of the issuers. Cheap to clone; the clones share keys and remembered tokens.
#[derive(Clone, Debug)]
pub struct Tokens(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    issuers: Vec<Trusted>,
    /// With the key that signed each: a token does not count once its key is no longer in use.
    checked: Cache<(Arc<User>, Weak<Key>)>,
}

#[derive(Debug)]
struct Trusted {
    issuer: String,
    audience: String,
    keys: Keys,
}

impl Tokens {
    /// Reads and fetches nothing yet.
    ///
    /// # Errors
    ///
    /// Issuers that are named twice.
    pub fn new(issuers: Vec<Issuer>) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        for (at, issuer) in issuers.iter().enumerate() {
            if issuers[..at].iter().any(|other| other.issuer == issuer.issuer) {
                mistakes.push(format!("issuer is there twice: `{}`; name each issuer once", issuer.issuer));
            }
        }
        let trusted = |issuer: Issuer| {
            let keys = Keys::new(&issuer);
            Trusted { issuer: issuer.issuer, audience: issuer.audience, keys }
        };
        let issuers = issuers.into_iter().map(trusted).collect();
        let shared = Shared { issuers, checked: Cache::new(REMEMBERED) };
        if mistakes.is_empty() { Ok(Self(Arc::new(shared))) } else { Err(mistakes) }
    }

    /// The user of a token that was checked before. It costs about a microsecond.
    pub fn known(&self, token: &str) -> Option<Arc<User>> {
        let (user, key) = self.0.checked.get(token)?;
        (key.strong_count() > 0).then_some(user)
    }

    /// The user of a token.
    ///
    /// Waits only if the key of the token is not known, and for at most 1 s. Needs a runtime of tokio with time and
    /// I/O.
    ///
    /// # Errors
    ///
    /// The token is not valid, or it cannot be known at the moment.
    pub async fn check(&self, token: &str) -> Result<Arc<User>, Refused> {
        if let Some(user) = self.known(token) {
            return Ok(user);
        }
        let jws = Jws::parse(token).map_err(Refused::Invalid)?;
        check_type(&jws.header).map_err(Refused::Invalid)?;
        let claims = Claims::parse(&jws.payload).map_err(Refused::Invalid)?;
        let trusted = self.0.issuers.iter().find(|trusted| trusted.issuer == claims.iss);
        let trusted =
            trusted.ok_or_else(|| Refused::Invalid("the token is of an issuer that does not count".to_owned()))?;
        let key = trusted.keys.key(&jws.header).await?;
        key.verify(&jws).map_err(Refused::Invalid)?;
        let user = Arc::new(claims.check(&trusted.audience, SystemTime::now())?);
        self.0.checked.put(token, (Arc::clone(&user), Arc::downgrade(&key)), user.until);
        Ok(user)
    }

    /// Fetches the keys of all issuers, and again and again. Never returns. Without it, keys are fetched when a token
    /// needs them, and a key that an issuer has withdrawn stays in use.
    pub async fn keep_fresh(self) {
        let mut issuers = JoinSet::new();
        for trusted in &self.0.issuers {
            issuers.spawn(trusted.keys.clone().keep_fresh());
        }
        while issuers.join_next().await.is_some() {}
        std::future::pending().await
    }

    /// How the issuers do.
    pub fn freshness(&self) -> Vec<Freshness> {
        self.0.issuers.iter().map(|trusted| trusted.keys.freshness()).collect()
    }
}

/// A token of another type was issued for something else (RFC 8725, 3.11): a logout, a proof.
fn check_type(header: &Header) -> Result<(), String> {
    // Some issuers set none. A passport has one of its own.
    let Some(named) = header.typ.as_deref() else { return Ok(()) };
    let prefix = "application/";
    let short = match named.get(..prefix.len()) {
        Some(start) if start.eq_ignore_ascii_case(prefix) => &named[prefix.len()..],
        _ => named,
    };
    let known = ["JWT", "at+jwt"].iter().any(|known| short.eq_ignore_ascii_case(known));
    if known { Ok(()) } else { Err("the type of the token is neither `JWT` nor `at+jwt`".to_owned()) }
}

#[cfg(test)]
mod keys_tests;
#[cfg(test)]
mod tests;

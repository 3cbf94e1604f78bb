//! The set of keys that an issuer publishes (RFC 7517).

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::json;
use crate::jws::Header;
use crate::key::{Jwk, Key, Unusable};

/// The largest set, in bytes.
pub(crate) const MAX_BYTES: usize = 64 * 1024;
/// The most keys in a set.
const MAX_KEYS: usize = 64;

/// Keys for signatures. It does not change.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    /// Shared: a remembered token holds its key weakly, and ends with it.
    pub(crate) keys: Vec<Arc<Key>>,
}

/// The key of a token.
#[derive(Debug)]
pub(crate) enum Found {
    Key(Arc<Key>),
    /// No key has this name. The issuer may have published one since.
    Unknown,
    /// A newer set would not help.
    No(String),
}

impl KeySet {
    /// Reads a set. Keys of `before` that are in it again stay the same.
    ///
    /// # Errors
    ///
    /// The set cannot be read, or is not one that an issuer publishes: a key of it is secret, two have one name, or
    /// none is for signatures.
    pub(crate) fn parse(bytes: &[u8], before: &[Arc<Key>]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        if bytes.len() > MAX_BYTES {
            return Err(format!("has more than {MAX_BYTES} bytes"));
        }
        let set: Set = json::object(bytes).map_err(|error| format!("is {error}"))?;
        if set.keys.len() > MAX_KEYS {
            return Err(format!("has {} keys, more than {MAX_KEYS}", set.keys.len()));
        }
        let (mut keys, mut unusable): (Vec<Arc<Key>>, _) = (Vec::new(), Vec::new());
        for key in set.keys {
            // serde would take an array, too.
            let jwk = Some(key).filter(Value::is_object).and_then(|key| serde_json::from_value::<Jwk>(key).ok());
            let unreadable = || Unusable::Other("it is not a JSON Web Key".to_owned());
            match jwk.ok_or_else(unreadable).and_then(Jwk::key) {
                Ok(key) if key.kid.is_some() && keys.iter().any(|other| other.kid == key.kid) => {
                    return Err(format!("has two keys named `{}`", key.kid.unwrap_or_default().escape_debug()));
                }
                Ok(key) => {
                    let same = before.iter().find(|other| ***other == key);
                    keys.push(same.map_or_else(|| Arc::new(key), Arc::clone));
                }
                Err(Unusable::Secret) => return Err("has a secret key, which must not be published".to_owned()),
                Err(Unusable::Other(why)) => unusable.push(why),
            }
        }
        if keys.is_empty() {
            unusable.sort();
            unusable.dedup();
            let why = if unusable.is_empty() { "it is empty".to_owned() } else { unusable.join(", ") };
            return Err(format!("has no key for signatures: {why}"));
        }
        Ok(Self { keys })
    }

    /// The key of a token with this header.
    pub(crate) fn find(&self, header: &Header) -> Found {
        let Some(kid) = &header.kid else {
            let fits: Vec<_> = self.keys.iter().filter(|key| key.algorithm == header.alg).collect();
            return match fits[..] {
                [key] => Found::Key(Arc::clone(key)),
                _ => Found::No(format!("the token has no `kid`, and its issuer has {} keys for it", fits.len())),
            };
        };
        let named = self.keys.iter().find(|key| key.kid.as_ref() == Some(kid));
        named.map_or(Found::Unknown, |key| Found::Key(Arc::clone(key)))
    }
}

#[cfg(test)]
mod tests;

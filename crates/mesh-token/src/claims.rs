//! The claims of a token (RFC 7519), and the rules for them.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::json::{self, Strings};
use crate::user::{Refused, User};

/// How far the clocks of two machines may differ.
pub const SKEW: Duration = Duration::from_secs(30);
/// The longest name of a user, in bytes. OpenID Connect has the same limit.
const MAX_SUBJECT: usize = 255;
/// The end of the year 9999.
const LAST: f64 = 253_402_300_799.0;

#[derive(Debug, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    sub: String,
    aud: Strings,
    exp: f64,
    #[serde(default, deserialize_with = "json::given")]
    nbf: Option<f64>,
    #[serde(default, deserialize_with = "json::given")]
    iat: Option<f64>,
    #[serde(default, deserialize_with = "json::given")]
    scope: Option<String>,
    #[serde(default, deserialize_with = "json::given")]
    scp: Option<Strings>,
}

impl Claims {
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, String> {
        json::object(payload).map_err(|error| format!("the payload is {error}"))
    }

    /// Checks the claims of a token whose signature is valid. The caller has found the issuer.
    pub(crate) fn check(self, audience: &str, now: SystemTime) -> Result<User, Refused> {
        let invalid = |why: &str| Err(Refused::Invalid(why.to_owned()));
        let meant = match &self.aud {
            Strings::One(one) => one == audience,
            Strings::Many(many) => many.iter().any(|one| one == audience),
        };
        if !meant {
            return invalid("the token is for another audience");
        }
        if !is_subject(&self.sub) {
            return invalid("`sub` is empty, longer than 255 bytes, or has control characters");
        }
        for (name, begin) in [("nbf", self.nbf), ("iat", self.iat)] {
            if begin.map(time).transpose()?.is_some_and(|begin| begin > now + SKEW) {
                return invalid(&format!("`{name}` is in the future"));
            }
        }
        let until = time(self.exp)?;
        if until + SKEW <= now {
            return Err(Refused::Expired);
        }
        let scopes = scopes(self.scope, self.scp);
        Ok(User { issuer: self.iss, subject: self.sub, scopes, until })
    }
}

/// Whether this may be the name of a user. It is shown, stored and logged.
pub(crate) fn is_subject(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_SUBJECT && !text.chars().any(char::is_control)
}

fn scopes(scope: Option<String>, scp: Option<Strings>) -> BTreeSet<String> {
    let split = |text: String| text.split(' ').filter(|one| !one.is_empty()).map(str::to_owned).collect();
    match (scope, scp) {
        (Some(text), _) | (None, Some(Strings::One(text))) => split(text),
        (None, Some(Strings::Many(many))) => many.into_iter().filter(|one| !one.is_empty()).collect(),
        (None, None) => BTreeSet::new(),
    }
}

/// Seconds since 1970, which may have a fraction.
pub(crate) fn time(seconds: f64) -> Result<SystemTime, Refused> {
    if !(0.0..=LAST).contains(&seconds) {
        return Err(Refused::Invalid("a time of the token is not between 1970 and 9999".to_owned()));
    }
    Ok(UNIX_EPOCH + Duration::from_secs_f64(seconds))
}

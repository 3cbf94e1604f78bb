//! An issuer whose tokens count.

use std::path::{Path, PathBuf};

use crate::get::authorities;
use crate::place::Place;
use crate::url::Url;

/// An issuer whose tokens count, if they are for this audience.
#[derive(Clone, Debug)]
pub struct Issuer {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) place: Place,
    pub(crate) roots: Option<PathBuf>,
}

impl Issuer {
    /// `issuer` is the `iss` of its tokens, to the byte. `audience` must be in their `aud`.
    ///
    /// `keys` is where its keys are: the URL of a JWKS, or the path of a file with one. Without it, they are found by
    /// `/.well-known/openid-configuration` of the issuer, which is a URL then. URLs are https, except on the loopback
    /// interface. No key is read here, and a file need not exist yet.
    ///
    /// # Errors
    ///
    /// All mistakes. Each begins with the name of the argument.
    pub fn new(issuer: &str, audience: &str, keys: Option<&str>) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        let invisible = |text: &str| text.is_empty() || text.chars().any(|one| one.is_control() || one.is_whitespace());
        if invisible(issuer) {
            mistakes.push("issuer is empty or has blanks: expected the `iss` of its tokens".to_owned());
        }
        if invisible(audience) {
            mistakes.push("audience is empty or has blanks: expected the `aud` of tokens for this mesh".to_owned());
        }
        let place = match keys {
            None if mistakes.iter().any(|mistake| mistake.starts_with("issuer")) => None,
            None => discovery(issuer).map_err(|mistake| mistakes.push(mistake)).ok(),
            Some(keys) => place(keys).map_err(|mistake| mistakes.push(mistake)).ok(),
        };
        match place {
            Some(place) if mistakes.is_empty() => {
                let (issuer, audience) = (issuer.to_owned(), audience.to_owned());
                Ok(Self { issuer, audience, place, roots: None })
            }
            _ => Err(mistakes),
        }
    }

    /// Trusts the authorities of this PEM file alone when keys are fetched by https, in the place of the public ones.
    /// The file is read each time; [`check_ca_file`] says whether it can be used.
    #[must_use]
    pub fn with_ca_file(mut self, path: &Path) -> Self {
        self.roots = Some(path.to_owned());
        self
    }
}

/// Reads a file of authorities.
///
/// # Errors
///
/// It cannot be read, or has no certificate.
pub fn check_ca_file(path: &Path) -> Result<(), String> {
    authorities(path).map(drop)
}

fn discovery(issuer: &str) -> Result<Place, String> {
    let text = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let wrong = |why: &str| {
        format!("issuer {why}: `{issuer}`; without keys, it must be the https URL of an OpenID Connect issuer")
    };
    if issuer.contains('?') {
        return Err(wrong("has a query"));
    }
    let document = Url::parse(&text).map_err(wrong)?;
    Ok(Place::Discovery { issuer: issuer.to_owned(), document })
}

fn place(keys: &str) -> Result<Place, String> {
    if keys.is_empty() {
        return Err("keys is empty: expected the https URL of a JWKS, or the path of a file with one".to_owned());
    }
    if !keys.contains("://") {
        return Ok(Place::File(keys.into()));
    }
    let url = Url::parse(keys).map_err(|why| {
        format!("keys {why}: `{keys}`; expected the https URL of a JWKS, or the path of a file with one")
    })?;
    Ok(Place::Set(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuer_lists_every_mistake() {
        let count = |issuer, audience, keys| Issuer::new(issuer, audience, keys).map_err(|mistakes| mistakes.len());
        for keys in [None, Some("https://a.example.org/keys"), Some("keys.json"), Some("http://[::1]:1/keys")] {
            assert!(count("https://a.example.org", "mesh", keys).is_ok(), "{keys:?}");
        }
        assert!(count("any name", "mesh", Some("keys.json")).is_err());
        assert!(count("a:name", "mesh", Some("keys.json")).is_ok());
        for (issuer, audience, keys, mistakes) in [
            ("", "", Some(""), 3),
            ("", "", None, 2),
            ("a:name", "mesh", None, 1),
            ("http://a.example.org", "mesh", None, 1),
            ("https://a.example.org?x", "mesh", None, 1),
            ("https://a.example.org", "mesh", Some("http://a.example.org/keys"), 1),
            ("https://a.example.org", "two words", Some("ftp://a.example.org/keys"), 2),
        ] {
            assert_eq!(count(issuer, audience, keys).err(), Some(mistakes), "{issuer} {audience} {keys:?}");
        }
    }
}

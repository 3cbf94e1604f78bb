//! The SPIFFE ID of a certificate: `spiffe://TRUST-DOMAIN/PATH`, whose last segment is the name of a service.

use std::fmt;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The longest ID, in bytes.
const MAX_LENGTH: usize = 2048;

/// A SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpiffeId {
    text: String,
    trust_domain: usize,
}

impl SpiffeId {
    /// Parses an ID. `None` if it is not valid, or has no path.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("spiffe://").filter(|_| text.len() <= MAX_LENGTH)?;
        let (domain, path) = rest.split_once('/')?;
        let in_domain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        let in_path = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let is_segment =
            |segment: &str| !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(in_path);
        let valid = !domain.is_empty()
            && domain.len() <= 255
            && domain.bytes().all(in_domain)
            && path.split('/').all(is_segment);
        valid.then(|| Self { text: text.to_owned(), trust_domain: domain.len() })
    }

    /// The ID of a certificate.
    ///
    /// # Errors
    ///
    /// Why the certificate has none, as the end of a sentence: it cannot be read, or does not have exactly one URI,
    /// which is an ID.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let parsed = EndEntityCert::try_from(certificate).map_err(|error| format!("cannot be read: {error}"))?;
        let uris: Vec<_> = parsed.valid_uri_names().collect();
        match uris[..] {
            [uri] => Self::parse(uri).ok_or_else(|| format!("has a URI that is no SPIFFE ID: {uri}")),
            _ => Err(format!("has {} URIs: a SPIFFE certificate has exactly one", uris.len())),
        }
    }

    /// The trust domain, such as `dev.mesh`.
    pub fn trust_domain(&self) -> &str {
        let start = "spiffe://".len();
        &self.text[start..start + self.trust_domain]
    }

    /// The ID that a service beside this one has: the same but for the last segment.
    pub fn beside(&self, service: &str) -> String {
        let end = self.text.len() - self.service().len();
        format!("{}{service}", &self.text[..end])
    }

    /// The service: the last segment of the path.
    pub fn service(&self) -> &str {
        self.text.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spiffe_id_has_a_trust_domain_and_a_service() {
        for (text, domain, service) in [
            ("spiffe://dev.mesh/service/catalog", "dev.mesh", "catalog"),
            ("spiffe://example.org/ns/default/sa/film_reviews", "example.org", "film_reviews"),
            ("spiffe://a/b", "a", "b"),
        ] {
            let id = SpiffeId::parse(text).unwrap();
            assert_eq!((id.trust_domain(), id.service(), id.to_string().as_str()), (domain, service, text));
            assert_eq!(id.beside("tv"), format!("{}tv", text.strip_suffix(service).unwrap()));
        }
    }

    #[test]
    fn spiffe_id_that_is_not_valid_is_none() {
        let long = format!("spiffe://a/{}", "b".repeat(MAX_LENGTH));
        for text in [
            "",
            "spiffe://",
            "spiffe://a",
            "spiffe://a/",
            "spiffe:///b",
            "https://a/b",
            "spiffe://A/b",
            "spiffe://a:1/b",
            "spiffe://u@a/b",
            "spiffe://a/b/",
            "spiffe://a//b",
            "spiffe://a/../b",
            "spiffe://a/./b",
            "spiffe://a/b?c",
            "spiffe://a/b#c",
            "spiffe://a/%62",
            "SPIFFE://a/b",
            &long,
        ] {
            assert_eq!(SpiffeId::parse(text), None, "{text}");
        }
    }
}

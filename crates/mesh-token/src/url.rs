//! The address of keys.

use std::net::IpAddr;

use http::Uri;

/// An address that may be asked for keys.
#[derive(Clone, Debug)]
pub(crate) struct Url(pub(crate) Uri);

impl Url {
    /// # Errors
    ///
    /// Why keys cannot come from there, as the end of a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "is not a URL")?;
        let authority = uri.authority().ok_or("is not a URL with a host")?;
        if authority.as_str().contains('@') || text.contains('#') {
            return Err("has a user or a fragment, which no request has");
        }
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if is_loopback(authority.host()) => {}
            Some("http") => return Err("is not https: keys that anyone on the way can replace prove nothing"),
            _ => return Err("is neither https nor http"),
        }
        Ok(Self(uri))
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_https_except_on_loopback() {
        for text in [
            "https://issuer.example.org/keys?x=1",
            "http://localhost:8080/keys",
            "http://127.0.0.1/keys",
            "http://[::1]:9/keys",
        ] {
            assert!(Url::parse(text).is_ok(), "{text}");
        }
        for text in [
            "http://issuer.example.org/keys",
            "http://10.0.0.1/keys",
            "http://localhost.example.org/",
            "https://user@issuer.example.org/",
            "https://issuer.example.org/#keys",
            "ftp://localhost/keys",
            "/keys",
            "issuer.example.org",
            "",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }
}

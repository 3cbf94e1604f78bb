//! The pages about the API: `/` with what there is, `/docs` to read and try it, `/openapi.json` for programs, and
//! `/errors/DOMAIN/REASON`, which the type of a problem names.
//!
//! Guarantees: pages load nothing from elsewhere, and browsers run only the scripts of this crate on them.

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, LOCATION, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use tonic::body::Body;

use crate::headers::takes_gzip;
use crate::settings::Docs;
use crate::validators::{hash_tag, is_known, weaken};

/// A page of this crate may only use this server.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// The link of the start page to the documentation.
const DOCS: &str = r#"<li><a href="/docs">Documentation</a> <span>every method, to read and to try</span></li>
"#;
/// The links of the start page to the admin pages.
const ADMIN: &str = r#"<li><a href="/readyz">Readiness</a> <span>which services work</span></li>
<li><a href="/metrics">Metrics</a> <span>for Prometheus</span></li>
"#;
/// What the start page says of a listener of the edge's own.
const OWN: &str = ", to clients from outside: the public methods alone, without gRPC reflection. The port of the services \
                   has reflection, and the port of the admin pages has readiness and metrics";
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The pages of a process.
pub(crate) struct Pages {
    /// Where `/docs` is. `None`: nowhere.
    docs: Option<Docs>,
    openapi: Page,
    files: [(&'static str, Page); 7],
}

impl Pages {
    /// `openapi` is the document of the public methods. `is_own`: the pages are on a listener of the edge's own, which
    /// has neither the admin pages nor reflection.
    pub(crate) fn new(openapi: Vec<u8>, docs: Docs, is_own: bool) -> Self {
        let page = |media_type, text: &'static str| Page::new(media_type, Bytes::from_static(text.as_bytes()));
        let (here, more) = if is_own { (OWN, "") } else { ("", ADMIN) };
        let link = if docs == Docs::Off { "" } else { DOCS };
        let start = include_str!("pages/start.html").replace("{here}", here).replace("{docs}", link);
        let start = start.replace("{more}", more);
        Self {
            openapi: Page::new("application/json", openapi.into()),
            files: [
                ("/", Page::new(HTML, start.into())),
                ("/docs", page(HTML, include_str!("pages/docs.html"))),
                ("/docs/page.js", page(SCRIPT, include_str!("pages/page.js"))),
                ("/docs/element.js", page(SCRIPT, include_str!("pages/element.js"))),
                ("/docs/schema.js", page(SCRIPT, include_str!("pages/schema.js"))),
                ("/docs/try.js", page(SCRIPT, include_str!("pages/try.js"))),
                ("/docs/page.css", page("text/css; charset=utf-8", include_str!("pages/page.css"))),
            ],
            docs: (docs != Docs::Off).then_some(docs),
        }
    }

    /// The answer to a request for a page; `None` for another path.
    pub(crate) fn answer(&self, head: &Parts) -> Option<Response<Body>> {
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return None;
        }
        let path = head.uri.path();
        if path == "/openapi.json" {
            return Some(self.openapi.answer(&head.headers));
        }
        if let Some(reason) = path.strip_prefix("/errors/") {
            return self.docs.as_ref().map(|_| redirect(&format!("/docs#errors/{reason}")));
        }
        match (&self.docs, path) {
            (None, path) if path.starts_with("/docs") && path != "/docs/page.css" => return None,
            (Some(Docs::At(url)), "/docs") => return Some(redirect(url)),
            _ => {}
        }
        let (_, page) = self.files.iter().find(|(at, _)| *at == path)?;
        Some(page.answer(&head.headers))
    }
}

/// A document, as it is and compressed.
struct Page {
    media_type: &'static str,
    plain: Bytes,
    compressed: Option<Bytes>,
    tag: Option<HeaderValue>,
}

impl Page {
    fn new(media_type: &'static str, plain: Bytes) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
        // Writing to memory does not fail.
        let compressed = encoder.write_all(&plain).and_then(|()| encoder.finish()).ok().map(Bytes::from);
        let tag = hash_tag(&plain);
        Self { media_type, plain, compressed, tag }
    }

    fn answer(&self, request: &HeaderMap) -> Response<Body> {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        headers.extend(self.tag.clone().map(|tag| (ETAG, tag)));
        let mut response = Response::new(Body::empty());
        if is_known(request, &headers) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.media_type));
            headers.insert(CONTENT_SECURITY_POLICY, POLICY);
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            let compressed = self.compressed.as_ref().filter(|_| takes_gzip(request));
            if compressed.is_some() {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                weaken(&mut headers);
            }
            *response.body_mut() = Body::new(Full::new(compressed.unwrap_or(&self.plain).clone()));
        }
        *response.headers_mut() = headers;
        response
    }
}

fn redirect(to: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn get(docs: Docs, path: &str) -> Option<Response<Body>> {
        let head = Request::get(path).body(()).unwrap().into_parts().0;
        Pages::new(b"{}".to_vec(), docs, false).answer(&head)
    }

    fn location(response: &Response<Body>) -> &str {
        response.headers()[LOCATION].to_str().unwrap()
    }

    #[test]
    fn pages_load_nothing_from_elsewhere() {
        for (path, page) in Pages::new(Vec::new(), Docs::On, true).files {
            let text = String::from_utf8(page.plain.to_vec()).unwrap();
            for scheme in ["https://", "src=\"//", "href=\"//", "import("] {
                assert!(!text.contains(scheme), "{path} has {scheme}");
            }
            // The policy refuses them.
            assert!(!text.contains("<style") && !text.contains(" style=\"") && !text.contains("<script>"), "{path}");
        }
    }

    #[test]
    fn start_page_links_the_admin_pages_where_they_are() {
        let start = |is_own| {
            let page =
                Pages::new(Vec::new(), Docs::On, is_own).files.into_iter().find(|(path, _)| *path == "/").unwrap().1;
            String::from_utf8(page.plain.to_vec()).unwrap()
        };
        let (shared, own) = (start(false), start(true));
        assert!(shared.contains("href=\"/metrics\"") && !shared.contains("reflection"), "{shared}");
        assert!(!own.contains("href=\"/metrics\"") && own.contains("without gRPC reflection"), "{own}");
        assert!(!shared.contains('{') && !own.contains('{'), "{shared}{own}");
    }

    #[test]
    fn start_page_links_the_documentation_if_there_is_one() {
        for (docs, linked) in
            [(Docs::On, true), (Docs::At("https://docs.example".to_owned()), true), (Docs::Off, false)]
        {
            let pages = Pages::new(Vec::new(), docs, false);
            let (_, start) = pages.files.iter().find(|(path, _)| *path == "/").unwrap();
            let start = String::from_utf8(start.plain.to_vec()).unwrap();
            assert_eq!(start.contains("href=\"/docs\""), linked, "{start}");
        }
    }

    #[test]
    fn docs_can_be_off_or_elsewhere() {
        assert_eq!(get(Docs::On, "/docs").unwrap().status(), 200);
        assert_eq!(
            location(&get(Docs::On, "/errors/catalog/TITLE_NOT_FOUND").unwrap()),
            "/docs#errors/catalog/TITLE_NOT_FOUND"
        );
        for path in ["/docs", "/docs/page.js", "/errors/catalog/TITLE_NOT_FOUND"] {
            assert!(get(Docs::Off, path).is_none(), "{path}");
        }
        assert_eq!(get(Docs::Off, "/").unwrap().status(), 200);
        let elsewhere = get(Docs::At("https://docs.example".to_owned()), "/docs").unwrap();
        assert_eq!((elsewhere.status(), location(&elsewhere)), (StatusCode::FOUND, "https://docs.example"));
        assert!(get(Docs::On, "/v1/titles").is_none());
    }

    #[test]
    fn page_that_is_known_is_not_sent_again() {
        let tag = get(Docs::On, "/openapi.json").unwrap().headers()[ETAG].clone();
        let head = Request::get("/openapi.json").header("if-none-match", tag).body(()).unwrap().into_parts().0;
        let known = Pages::new(b"{}".to_vec(), Docs::On, false).answer(&head).unwrap();
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    }
}

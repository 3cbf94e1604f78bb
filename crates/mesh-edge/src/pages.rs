//! The pages about the API: `/` with what there is, `/docs` to read and try it, `/openapi.json` for programs, and
//! `/errors/DOMAIN/REASON`, which the type of a problem names.
//!
//! Guarantees: pages load nothing from elsewhere, and browsers run only the scripts of this crate on them.

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response};
use tonic::body::Body;

use crate::document::{Document, redirect};
use crate::settings::Docs;

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
    openapi: Document,
    files: [(&'static str, Document); 9],
}

impl Pages {
    /// `openapi` is the document of the public methods, and `web` the address of the project's own page. `is_own`: the
    /// pages are on a listener of the edge's own, which has neither the admin pages nor reflection.
    pub(crate) fn new(openapi: Vec<u8>, docs: Docs, web: Option<&str>, is_own: bool) -> Self {
        let page = |media_type, text: &'static str| Document::text(media_type, Bytes::from_static(text.as_bytes()));
        let (here, more) = if is_own { (OWN, "") } else { ("", ADMIN) };
        let link = if docs == Docs::Off { "" } else { DOCS };
        let start = include_str!("pages/start.html").replace("{here}", here).replace("{docs}", link);
        let web = web.map(|at| format!("<li><a href=\"{at}\">{at}</a> <span>a page that uses the API</span></li>\n"));
        let start = start.replace("{web}", &web.unwrap_or_default()).replace("{more}", more);
        Self {
            openapi: Document::text("application/json", openapi.into()),
            files: [
                ("/", Document::text(HTML, start.into())),
                ("/docs", page(HTML, include_str!("pages/docs.html"))),
                ("/docs/page.js", page(SCRIPT, include_str!("pages/page.js"))),
                ("/docs/element.js", page(SCRIPT, include_str!("pages/element.js"))),
                ("/docs/schema.js", page(SCRIPT, include_str!("pages/schema.js"))),
                ("/docs/events.js", page(SCRIPT, include_str!("pages/events.js"))),
                ("/docs/token.js", page(SCRIPT, include_str!("pages/token.js"))),
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{ETAG, LOCATION};
    use http::{Request, StatusCode};

    fn get(docs: Docs, path: &str) -> Option<Response<Body>> {
        let head = Request::get(path).body(()).unwrap().into_parts().0;
        Pages::new(b"{}".to_vec(), docs, None, false).answer(&head)
    }

    fn location(response: &Response<Body>) -> &str {
        response.headers()[LOCATION].to_str().unwrap()
    }

    #[test]
    fn pages_load_nothing_from_elsewhere() {
        for (path, page) in Pages::new(Vec::new(), Docs::On, None, true).files {
            let text = String::from_utf8(page.plain().to_vec()).unwrap();
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
            let page = Pages::new(Vec::new(), Docs::On, None, is_own)
                .files
                .into_iter()
                .find(|(path, _)| *path == "/")
                .unwrap()
                .1;
            String::from_utf8(page.plain().to_vec()).unwrap()
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
            let pages = Pages::new(Vec::new(), docs, None, false);
            let (_, start) = pages.files.iter().find(|(path, _)| *path == "/").unwrap();
            let start = String::from_utf8(start.plain().to_vec()).unwrap();
            assert_eq!(start.contains("href=\"/docs\""), linked, "{start}");
        }
    }

    #[test]
    fn start_page_links_the_page_of_the_project() {
        let pages = Pages::new(Vec::new(), Docs::On, Some("/demo/"), false);
        let start = String::from_utf8(pages.files[0].1.plain().to_vec()).unwrap();
        assert!(start.contains("<a href=\"/demo/\">") && !start.contains('{'), "{start}");
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
        let known = Pages::new(b"{}".to_vec(), Docs::On, None, false).answer(&head).unwrap();
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    }
}

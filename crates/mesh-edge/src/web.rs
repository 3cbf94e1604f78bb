//! A page of the project's own: the files of the folder that `edge.web` names.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use tonic::Code;
use tonic::body::Body;

use crate::document::{Document, redirect};
use crate::folder::{Folder, INDEX};
use crate::refusal::Refusal;

/// The files of a folder, at a path.
pub(crate) struct Web {
    /// Such as `/demo`.
    at: String,
    files: BTreeMap<String, Document>,
}

impl Web {
    /// Compresses the files. `paths` are those of the API.
    ///
    /// # Errors
    ///
    /// The path of the folder leads to the API, too. The message is one line.
    pub(crate) fn new<'p>(folder: &Folder, mut paths: impl Iterator<Item = &'p str>) -> anyhow::Result<Self> {
        let at = folder.at.clone();
        if let Some(path) = paths.find(|path| clashes(&at, path)) {
            anyhow::bail!("`edge.web` has the path `{at}`, where the API has `{path}`: choose another path");
        }
        let files = folder.files.iter().map(|(name, content)| (name.clone(), document(name, content))).collect();
        Ok(Self { at, files })
    }

    /// The address of the page.
    pub(crate) fn address(&self) -> String {
        format!("{}/", self.at)
    }

    /// The answer to a request for a file; `None` for another path.
    ///
    /// # Errors
    ///
    /// The folder has no such file, or the path is malformed.
    pub(crate) fn answer(&self, head: &Parts) -> Option<Result<Response<Body>, Refusal>> {
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return None;
        }
        let below = head.uri.path().strip_prefix(&self.at)?;
        if below.is_empty() {
            // Relative addresses in the page start at a folder.
            let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            return Some(Ok(redirect(&format!("{}{query}", self.address()))));
        }
        below.starts_with('/').then(|| self.file(below, head))
    }

    fn file(&self, path: &str, head: &Parts) -> Result<Response<Body>, Refusal> {
        let path = transcode::decode_path(path)
            .map_err(|reason| Refusal::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, "MALFORMED_PATH", reason))?;
        let mut name = path[1..].to_owned();
        if path.ends_with('/') {
            name += INDEX;
        }
        let file = self.files.get(&name).ok_or_else(|| {
            let message = "the folder of edge.web has no such file: it is read when the process starts";
            Refusal::new(StatusCode::NOT_FOUND, Code::NotFound, "UNKNOWN_PATH", message)
        })?;
        Ok(file.answer(&head.headers))
    }
}

/// Whether paths below `at` may be of a method of the API, which has the path `path`.
fn clashes(at: &str, path: &str) -> bool {
    let first = path.split('/').nth(1).unwrap_or_default();
    first.contains(['{', '*']) || at.strip_prefix('/') == Some(first)
}

/// A file with the media type of its ending.
fn document(name: &str, content: &Bytes) -> Document {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending).to_ascii_lowercase();
    let (is_text, media_type) = match &*ending {
        "html" => (true, "text/html; charset=utf-8"),
        "js" | "mjs" => (true, "text/javascript; charset=utf-8"),
        "css" => (true, "text/css; charset=utf-8"),
        "txt" => (true, "text/plain; charset=utf-8"),
        "json" => (true, "application/json"),
        "svg" => (true, "image/svg+xml"),
        "png" => (false, "image/png"),
        "jpg" | "jpeg" => (false, "image/jpeg"),
        "webp" => (false, "image/webp"),
        "ico" => (false, "image/x-icon"),
        "woff2" => (false, "font/woff2"),
        _ => (false, "application/octet-stream"),
    };
    if is_text { Document::text(media_type, content.clone()) } else { Document::binary(media_type, content.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use http::header::{CONTENT_ENCODING, CONTENT_TYPE, ETAG, LOCATION};
    use std::sync::Arc;

    const API: [&str; 2] = ["/v1/titles", "/v1/titles/{title_id}:rent"];

    fn web() -> Web {
        let long = Bytes::from("a".repeat(5000));
        let files =
            [("index.html", long.clone()), ("a/index.html", long.clone()), ("a/ä b.js", long.clone()), ("x.PNG", long)];
        let files = files.map(|(name, content)| (name.to_owned(), content)).into();
        Web::new(&Folder { at: "/demo".to_owned(), files: Arc::new(files) }, API.into_iter()).unwrap()
    }

    fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> Parts {
        let request = Request::builder().method(method).uri(path);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    fn get(path: &str, headers: &[(&str, &str)]) -> Option<Result<Response<Body>, Refusal>> {
        web().answer(&head("GET", path, headers))
    }

    fn status(path: &str) -> u16 {
        get(path, &[]).unwrap().map_or_else(|refusal| refusal.http, |response| response.status()).as_u16()
    }

    #[test]
    fn web_serves_the_files_of_the_folder() {
        for (path, media_type) in [
            ("/demo/", "text/html; charset=utf-8"),
            ("/demo/index.html?x=1", "text/html; charset=utf-8"),
            ("/demo/a/", "text/html; charset=utf-8"),
            ("/demo/a/%C3%A4%20b.js", "text/javascript; charset=utf-8"),
            ("/demo/x.PNG", "image/png"),
        ] {
            let found = get(path, &[]).unwrap().ok().unwrap();
            assert_eq!((found.status().as_u16(), found.headers()[CONTENT_TYPE].to_str().unwrap()), (200, media_type));
        }
        for (path, expected) in
            [("/demo/b", 404), ("/demo//", 404), ("/demo/a", 404), ("/demo/../x.PNG", 400), ("/demo/%zz", 400)]
        {
            assert_eq!(status(path), expected, "{path}");
        }
        for path in ["/", "/demos/", "/demo2", "/v1/titles"] {
            assert!(get(path, &[]).is_none(), "{path}");
        }
        assert!(web().answer(&head("POST", "/demo/", &[])).is_none());
        assert!(web().answer(&head("HEAD", "/demo/", &[])).is_some());
    }

    #[test]
    fn web_sends_the_address_without_a_slash_to_the_one_with_it() {
        for (path, to) in [("/demo", "/demo/"), ("/demo?a=b", "/demo/?a=b")] {
            let redirect = get(path, &[]).unwrap().ok().unwrap();
            assert_eq!((redirect.status().as_u16(), redirect.headers()[LOCATION].to_str().unwrap()), (302, to));
        }
    }

    #[test]
    fn web_compresses_text_alone() {
        let encoded = |path: &str| {
            let found = get(path, &[("accept-encoding", "gzip")]).unwrap().ok().unwrap();
            found.headers().get(CONTENT_ENCODING).is_some()
        };
        assert!(encoded("/demo/") && !encoded("/demo/x.PNG"));
        let tag = get("/demo/", &[]).unwrap().ok().unwrap().headers()[ETAG].to_str().unwrap().to_owned();
        let known = get("/demo/", &[("if-none-match", &tag)]).unwrap().ok().unwrap();
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn web_path_of_the_api_is_refused() {
        let folder = |at: &str| Folder { at: at.to_owned(), files: Arc::default() };
        let error = Web::new(&folder("/v1"), API.into_iter()).err().unwrap().to_string();
        assert_eq!(error, "`edge.web` has the path `/v1`, where the API has `/v1/titles`: choose another path");
        assert!(Web::new(&folder("/v2"), API.into_iter()).is_ok());
        assert!(Web::new(&folder("/v2"), ["/{name=services/*}:go"].into_iter()).is_err(), "any first segment");
    }
}

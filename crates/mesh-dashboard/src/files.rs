//! The files of the page, in the program.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use mesh_edge::Document;
use tonic::body::Body;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// The files: the path below `/dashboard/`, the media type and the text.
const FILES: &[(&str, &str, &str)] = &[
    ("", HTML, include_str!("../page/index.html")),
    ("style.css", STYLE, include_str!("../page/style.css")),
    ("app.js", SCRIPT, include_str!("../page/app.js")),
    ("model.js", SCRIPT, include_str!("../page/model.js")),
    ("dom.js", SCRIPT, include_str!("../page/dom.js")),
    ("graph.js", SCRIPT, include_str!("../page/graph.js")),
    ("overview.js", SCRIPT, include_str!("../page/overview.js")),
    ("calls.js", SCRIPT, include_str!("../page/calls.js")),
    ("work.js", SCRIPT, include_str!("../page/work.js")),
    ("contracts.js", SCRIPT, include_str!("../page/contracts.js")),
];

/// The files, ready to be sent.
pub(crate) struct Files(Vec<(&'static str, Document)>);

impl Files {
    pub(crate) fn new() -> Self {
        let document = |&(path, media_type, text): &(&'static str, &'static str, &'static str)| {
            (path, Document::text(media_type, Bytes::from_static(text.as_bytes())))
        };
        Self(FILES.iter().map(document).collect())
    }

    /// The answer for a path below `/dashboard/`; `None` for another.
    pub(crate) fn answer(&self, path: &str, head: &Parts) -> Option<Response<Body>> {
        let (_, document) = self.0.iter().find(|(at, _)| *at == path)?;
        Some(document.answer(&head.headers))
    }
}

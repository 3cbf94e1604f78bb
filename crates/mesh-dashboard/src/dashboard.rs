//! The page, as listeners answer it.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::ACCEPT;
use http::{Method, Request};
use hyper::body::Incoming;
use mesh_edge::Site;
use mesh_rpc::call::{Answering, Connection};
use mesh_rpc::server::{Front, Page};
use tokio_util::sync::CancellationToken;

use crate::follow;
use crate::guard::{self, Guard};
use crate::hub::{Hub, Own};
use crate::members::Members;
use crate::routes::{Routes, redirect};
use crate::settings::{Mode, Settings};

/// The page at one address. Cheap to clone.
#[derive(Clone)]
pub struct Dashboard {
    routes: Arc<Routes>,
    listen: SocketAddr,
}

impl Dashboard {
    /// The page at `listen`, which ends its streams when `draining` is cancelled. `None`: the settings have no page there. `asks`:
    /// the process asks its callers who they are, so readers need the link of the log or the token, also on loopback.
    ///
    /// # Errors
    ///
    /// The token cannot be read. The message is one line.
    pub fn new(
        settings: &Settings,
        listen: SocketAddr,
        own: Own,
        members: impl Members,
        asks: bool,
        draining: CancellationToken,
    ) -> anyhow::Result<Option<Self>> {
        let mode = settings.mode_at(listen);
        if mode == Mode::Off {
            return Ok(None);
        }
        let token = settings.token_file.as_deref().map(guard::token).transpose().map_err(anyhow::Error::msg)?;
        let token = if asks && token.is_none() { guard::random() } else { token };
        let guard = Guard::new(Site::new(listen, &settings.hosts), token);
        let hub = Hub::new(Box::new(members), own, mode);
        let routes = Routes::new(hub, guard, draining);
        Ok(Some(Self { routes: Arc::new(routes), listen }))
    }

    /// Follows the mesh while there are readers, until the future is dropped.
    pub async fn run(self) {
        follow::run(Arc::clone(&self.routes.hub)).await;
    }

    /// The page for a listener that answers other requests, too: what is below `/dashboard`, and a browser's `/`.
    pub fn page(&self) -> Page {
        let page = self.clone();
        let front: Front = Arc::new(move |request: Request<Incoming>, _: Connection| page.answer(request));
        Page { takes: Arc::new(takes), front }
    }

    fn answer(&self, request: Request<Incoming>) -> Answering {
        let (head, body) = request.into_parts();
        if !head.uri.path().starts_with("/dashboard/") {
            return Box::pin(std::future::ready(redirect("/dashboard/")));
        }
        let routes = Arc::clone(&self.routes);
        Box::pin(async move { routes.answer(&head, body).await })
    }

    /// The address for a reader. With a token, the link is good once.
    pub fn url(&self) -> String {
        let path = self.routes.guard.link().unwrap_or_else(|| "/dashboard/".to_owned());
        format!("http://{}{path}", self.listen)
    }

    /// Whether readers need a token.
    pub fn has_token(&self) -> bool {
        self.routes.guard.has_token()
    }
}

/// Whether a request is for the page.
fn takes<B>(request: &Request<B>) -> bool {
    let path = request.uri().path();
    let browses = || {
        let accepts = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        matches!(*request.method(), Method::GET | Method::HEAD)
            && accepts.into_iter().any(|it| it.contains("text/html"))
    };
    path == "/dashboard" || path.starts_with("/dashboard/") || path == "/" && browses()
}

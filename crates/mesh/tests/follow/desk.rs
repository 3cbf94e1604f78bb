//! The calls that both services answer: each makes or finds things itself, or asks the other one to.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use mesh::events::Publish as _;
use mesh::{Channel, Error, Resources, Store, peer};
use mesh_rpc::call::error::{internal, status};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::Service;

use crate::things::{Made, make};

/// The desk of the things, or that of the shelf. A request names its thing in a header.
#[derive(Clone)]
pub(crate) struct Desk<const SHELF: bool> {
    store: Store,
    other: Channel,
}

impl NamedService for Desk<false> {
    const NAME: &'static str = "things.v1.Things";
}

impl NamedService for Desk<true> {
    const NAME: &'static str = "shelf.v1.Shelf";
}

impl<const SHELF: bool> Desk<SHELF> {
    pub(crate) fn new(resources: &Resources) -> Self {
        Self { store: resources.store(), other: resources.channel(if SHELF { "things" } else { "shelf" }) }
    }

    async fn answer(self, method: &str, name: &str) -> Result<(), Status> {
        match method {
            "/things.v1.Things/Make" => Ok(make(&self.store, name).await?),
            "/things.v1.Things/Drop" => Ok(publish_and_roll_back(&self.store, name).await?),
            "/things.v1.Things/Has" => self.ask("/shelf.v1.Shelf/Has", name).await,
            "/shelf.v1.Shelf/Make" => self.ask("/things.v1.Things/Make", name).await,
            "/shelf.v1.Shelf/Has" => {
                let has = sqlx::query("SELECT 1 FROM shelved WHERE name = $1").bind(name);
                let has = has.fetch_optional(self.store.reader()).await.map_err(Error::from)?;
                has.map(|_| ()).ok_or_else(|| status(Code::NotFound, "shelf", "NOT_ON_THE_SHELF", name))
            }
            method => Err(internal(std::sync::Arc::new(std::io::Error::other(method.to_owned())))),
        }
    }

    async fn ask(&self, method: &str, name: &str) -> Result<(), Status> {
        ask(&self.other, method, name, &[]).await.map(|_| ()).map_err(peer::pass_on)
    }
}

async fn publish_and_roll_back(store: &Store, name: &str) -> Result<(), Error> {
    let mut tx = store.begin().await?;
    tx.publish(&Made { name: name.to_owned(), revision: 1 })
}

/// Calls a method with the name of a thing. Returns the token of the answer.
pub(crate) async fn ask(
    channel: &Channel,
    method: &str,
    name: &str,
    headers: &[(&'static str, &str)],
) -> Result<Option<String>, Status> {
    let mut request = Request::builder().uri(format!("http://mesh{method}")).header("name", name);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let Ok(response) = channel.clone().call(request.body(Body::empty()).unwrap()).await;
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(response.headers().get("mesh-consistency").map(|token| token.to_str().unwrap().to_owned())),
    }
}

impl<const SHELF: bool> Service<Request<Body>> for Desk<SHELF> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let desk = self.clone();
        Box::pin(async move {
            let name = request.headers()["name"].to_str().unwrap();
            let answered = desk.answer(request.uri().path(), name).await;
            Ok(answered.err().unwrap_or_else(|| Status::ok("")).into_http())
        })
    }
}

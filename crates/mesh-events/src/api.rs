//! Serves `EventsService`, once for all services of a process that publish. A request names the service.
//!
//! It stands in place of the generated server, which would encode each event for each stream.
//!
//! See: docs/decisions/0030-one-encoding-for-all-streams.md

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mesh_feed::cursor::LogCursor;
use mesh_feed::encoded::{Frames, answer};
use mesh_feed::epoch::epoch;
use mesh_proto::mesh::events::v1::events_service_server::SERVICE_NAME;
use mesh_proto::mesh::events::v1::{
    ListEventsRequest, ListEventsResponse, ListSourcesRequest, ListSourcesResponse, SubscribeRequest,
};
use mesh_rpc::call::error::{DOMAIN, invalid_fields, status};
use mesh_rpc::call::page::Page;
use mesh_rpc::call::{GrpcServices, Violations, add};
use mesh_store::Error;
use prost::Message;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};
use uuid::Uuid;

use super::list;
use super::source::Published;
use super::subscribe::{Options, subscribe};

/// The full name of the gRPC service that [`serve`] adds.
pub const CONTRACT: &str = SERVICE_NAME;

/// Adds the contract of events to `grpc`, for all services in `all`.
///
/// # Errors
///
/// As for any transaction: the epoch of each database is read.
pub async fn serve(all: Vec<Published>, grpc: &mut GrpcServices) -> Result<(), Error> {
    let mut sources = HashMap::new();
    for published in all {
        let epoch = epoch(&published.store).await?;
        sources.insert(published.service, (published, epoch));
    }
    add(grpc, Api(Arc::new(sources)));
    Ok(())
}

/// The gRPC service: the services that publish, with the epochs of their databases.
#[derive(Clone)]
struct Api(Arc<HashMap<&'static str, (Published, Uuid)>>);

impl Api {
    async fn subscribe(self, request: SubscribeRequest) -> Result<Frames, Status> {
        let mut bad = Violations::default();
        bad.check(!request.source.is_empty(), "source", "must name a service");
        let cursor = LogCursor::parse(&request.cursor);
        bad.check(cursor.is_ok(), "cursor", "must come from a stream of events, or be empty");
        let source = self.0.get(request.source.as_str());
        if let Some((published, _)) = source {
            let types = published.publishes.types;
            for asked in request.types.iter().filter(|asked| !types.contains(&asked.as_str())) {
                let unknown = format!("has `{asked}`, which the source does not publish: use {}", types.join(", "));
                bad.check(false, "types", unknown);
            }
        }
        bad.finish().map_err(|bad| invalid_fields(DOMAIN, bad))?;

        let (published, epoch) = source.ok_or_else(|| unknown(&request.source))?;
        let options = Options {
            cursor: cursor.ok().flatten(),
            types: request.types.into_iter().collect(),
            // A negative duration counts as none.
            heartbeat: request.heartbeat.and_then(|asked| Duration::try_from(asked).ok()),
        };
        Ok(Box::pin(subscribe(published.clone(), *epoch, options).await?))
    }

    async fn list_sources(self, _: ListSourcesRequest) -> Result<ListSourcesResponse, Status> {
        let mut sources = Vec::new();
        for (published, epoch) in self.0.values() {
            sources.push(list::source(published, *epoch).await?);
        }
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(ListSourcesResponse { sources })
    }

    async fn list_events(self, request: ListEventsRequest) -> Result<ListEventsResponse, Status> {
        let mut bad = Violations::default();
        bad.check(!request.source.is_empty(), "source", "must name a service");
        let correlation = bad.uuid(&request.correlation_id, "correlation_id");
        let page = Page::read(request.page_size, &request.page_token, &mut bad);
        bad.finish().map_err(|bad| invalid_fields(DOMAIN, bad))?;
        let (published, _) = self.0.get(request.source.as_str()).ok_or_else(|| unknown(&request.source))?;
        let (events, next_page_token) = list::caused(published, correlation, &page).await?;
        Ok(ListEventsResponse { events, next_page_token })
    }
}

fn unknown(source: &str) -> Status {
    let message = format!("the service `{source}` publishes no events in this process");
    status(Code::NotFound, DOMAIN, "SERVICE_NOT_FOUND", message)
}

/// Answers a call of a method with one request and one response, which `method` is.
async fn unary<R, A, F>(call: http::Request<Body>, method: impl Fn(R) -> F) -> Result<http::Response<Body>, Infallible>
where
    R: Message + Default + 'static,
    A: Message + Default + 'static,
    F: Future<Output = Result<A, Status>>,
{
    let method = service_fn(|request: Request<R>| {
        let answer = method(request.into_inner());
        async { Ok(Response::new(answer.await?)) }
    });
    Ok(Grpc::new(ProstCodec::<A, R>::default()).unary(method, call).await)
}

impl NamedService for Api {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<http::Request<Body>> for Api {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let api = self.clone();
        match request.uri().path().rsplit('/').next() {
            Some("Subscribe") => Box::pin(answer(request, move |request| api.clone().subscribe(request))),
            Some("ListSources") => Box::pin(unary(request, move |request| api.clone().list_sources(request))),
            Some("ListEvents") => Box::pin(unary(request, move |request| api.clone().list_events(request))),
            _ => Box::pin(async { Ok(Status::unimplemented("").into_http()) }),
        }
    }
}

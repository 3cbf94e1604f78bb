//! Serves `OperationEventsService`: the streams Watch and Subscribe.
//!
//! It stands in place of the generated server, which would encode each message for each stream: the messages of these
//! streams are encoded already, most of them once for all streams.
//!
//! See: docs/decisions/0030-one-encoding-for-all-streams.md

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use mesh_feed::encoded::{Frames, answer};
use mesh_proto::mesh::operations::v1::operation_events_service_server::SERVICE_NAME;
use mesh_proto::mesh::operations::v1::{SubscribeRequest, WatchRequest};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

/// The methods of the contract. A response is a stream of encoded messages.
pub(super) trait Streams: Clone + Send + Sync + 'static {
    fn watch(self, request: WatchRequest) -> impl Future<Output = Result<Frames, Status>> + Send;
    fn subscribe(self, request: SubscribeRequest) -> impl Future<Output = Result<Frames, Status>> + Send;
}

/// The gRPC service.
#[derive(Clone)]
pub(super) struct Events<S>(pub(super) S);

impl<S> NamedService for Events<S> {
    const NAME: &'static str = SERVICE_NAME;
}

impl<S: Streams> Service<http::Request<Body>> for Events<S> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self(streams) = self.clone();
        match request.uri().path().rsplit('/').next() {
            Some("Watch") => Box::pin(answer(request, move |request| streams.clone().watch(request))),
            Some("Subscribe") => Box::pin(answer(request, move |request| streams.clone().subscribe(request))),
            _ => Box::pin(async { Ok(Status::unimplemented("").into_http()) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[derive(Clone)]
    struct Unanswered;

    impl Streams for Unanswered {
        async fn watch(self, request: WatchRequest) -> Result<Frames, Status> {
            Err(Status::not_found(request.name))
        }

        async fn subscribe(self, request: SubscribeRequest) -> Result<Frames, Status> {
            Err(Status::not_found(request.parent))
        }
    }

    #[tokio::test]
    async fn events_serve_each_method_of_the_contract() {
        let contracts = FileDescriptorSet::decode(mesh_proto::FILE_DESCRIPTOR_SET).unwrap();
        let services = contracts.file.iter().flat_map(|file| &file.service);
        let service =
            services.into_iter().find(|service| SERVICE_NAME.ends_with(&format!(".{}", service.name()))).unwrap();
        assert!(!service.method.is_empty());
        for method in service.method.iter().map(|method| method.name()) {
            // The first field of both requests is a text.
            let body = Body::new(http_body_util::Full::new(Bytes::from_static(b"\0\0\0\0\x03\x0a\x01x")));
            let call = http::Request::post(format!("/{SERVICE_NAME}/{method}")).body(body).unwrap();
            let Ok(response) = Events(Unanswered).call(call).await;
            let status = Status::from_header_map(response.headers()).unwrap();
            assert_eq!((status.code(), status.message()), (tonic::Code::NotFound, "x"), "{method}");
        }
    }
}

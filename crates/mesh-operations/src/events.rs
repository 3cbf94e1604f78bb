//! Serves `OperationEventsService`: the streams Watch and Subscribe.
//!
//! It stands in place of the generated server, which would encode each message for each stream: the messages of these
//! streams are encoded already, most of them once for all streams.
//!
//! See: docs/decisions/0030-one-encoding-for-all-streams.md

use std::convert::Infallible;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes};
use futures_util::Stream;
use mesh_proto::mesh::operations::v1::operation_events_service_server::SERVICE_NAME;
use mesh_proto::mesh::operations::v1::{SubscribeRequest, WatchRequest};
use prost::Message;
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Response, Status};
use tonic_prost::{ProstCodec, ProstDecoder};
use tower::{Service, service_fn};

/// The methods of the contract. A response is a stream of encoded messages.
pub(super) trait Streams: Clone + Send + Sync + 'static {
    fn watch(self, request: WatchRequest) -> impl Future<Output = Result<Frames, Status>> + Send;
    fn subscribe(self, request: SubscribeRequest) -> impl Future<Output = Result<Frames, Status>> + Send;
}

/// Encoded messages.
pub(super) type Frames = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

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
            Some("Watch") => Box::pin(stream(request, move |request| streams.clone().watch(request))),
            Some("Subscribe") => Box::pin(stream(request, move |request| streams.clone().subscribe(request))),
            _ => Box::pin(async { Ok(Status::unimplemented("").into_http()) }),
        }
    }
}

/// Answers a call of one method.
async fn stream<R, F>(call: http::Request<Body>, method: impl Fn(R) -> F) -> Result<http::Response<Body>, Infallible>
where
    R: Message + Default + 'static,
    F: Future<Output = Result<Frames, Status>>,
{
    let method = service_fn(|request: Request<R>| {
        let frames = method(request.into_inner());
        async { Ok(Response::new(frames.await?)) }
    });
    Ok(Grpc::new(Encoded::default()).server_streaming(method, call).await)
}

/// Decodes requests `R`, and sends messages that are encoded already.
struct Encoded<R>(PhantomData<R>);

impl<R> Default for Encoded<R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<R: Message + Default + 'static> Codec for Encoded<R> {
    type Encode = Bytes;
    type Decode = R;
    type Encoder = Copy;
    type Decoder = ProstDecoder<R>;

    fn encoder(&mut self) -> Copy {
        Copy
    }

    fn decoder(&mut self) -> ProstDecoder<R> {
        ProstCodec::<R, R>::default().decoder()
    }
}

/// Copies encoded messages.
struct Copy;

/// tonic allocates the first buffer of a stream in advance, 8 KiB by default: half of the memory of an idle stream.
const BUFFER: usize = 0;
/// The bytes of messages that are sent together, tonic's default.
const SENT_TOGETHER: usize = 32 * 1024;

impl Encoder for Copy {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, SENT_TOGETHER)
    }
}

#[cfg(test)]
mod tests {
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
        let service = services.into_iter().find(|service| SERVICE_NAME.ends_with(service.name())).unwrap();
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

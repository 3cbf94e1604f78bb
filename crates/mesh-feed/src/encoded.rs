//! Serves streams of messages that are encoded already, most of them once for all streams.
//!
//! It stands in place of a generated server, which would encode each message for each stream.
//!
//! See: docs/decisions/0030-one-encoding-for-all-streams.md

use std::convert::Infallible;
use std::marker::PhantomData;
use std::pin::Pin;

use bytes::{BufMut as _, Bytes};
use futures_util::Stream;
use prost::Message;
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic::server::Grpc;
use tonic::{Request, Response, Status};
use tonic_prost::{ProstCodec, ProstDecoder};
use tower::service_fn;

/// Encoded messages.
pub type Frames = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// Answers a call of a server-streaming method, whose messages are encoded already.
///
/// # Errors
///
/// None: a failure of the method is an answer.
pub async fn answer<R, F>(
    call: http::Request<Body>,
    method: impl Fn(R) -> F,
) -> Result<http::Response<Body>, Infallible>
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

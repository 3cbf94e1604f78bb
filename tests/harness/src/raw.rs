//! gRPC calls by hand, for what no client does: half a request, or a deadline that only the server knows.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use tokio::runtime::Runtime;

/// A connection by hand. Cheap to clone; closed with its last call.
#[derive(Clone)]
pub struct RawConnection {
    runtime: Arc<Runtime>,
    address: SocketAddr,
    client: SendRequest<Bytes>,
}

/// A call of which the headers are sent and the message is not.
pub struct RawCall {
    connection: RawConnection,
    response: ResponseFuture,
    request: SendStream<Bytes>,
}

/// How a call ended.
pub struct Ended {
    /// `grpc-status`, from the head or from the trailers.
    pub code: String,
    /// All of the response, each message with the five bytes in front of it.
    pub body: Vec<u8>,
}

impl RawConnection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let client = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
            let (client, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
            tokio::spawn(connection);
            client
        });
        Self { runtime: Arc::new(runtime), address, client }
    }

    /// Sends the headers of a call.
    pub fn call(&self, path: &str, headers: &[(&str, &str)]) -> RawCall {
        let mut request = http::Request::post(format!("http://{}{path}", self.address));
        for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")].iter().chain(headers) {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let client = self.client.clone();
        let (response, request) = self.runtime.block_on(async {
            let mut client = client.ready().await.expect("it takes a request");
            client.send_request(request, false).expect("it takes a request")
        });
        RawCall { connection: self.clone(), response, request }
    }
}

impl RawCall {
    /// A call that is alone on its connection.
    pub fn begin(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        RawConnection::open(address).call(path, headers)
    }

    /// Sends the message, and does not look at what comes back.
    pub fn send(&mut self, message: &[u8]) {
        let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
        let frame: Vec<u8> = [&[0], &length[..], message].concat();
        self.request.send_data(frame.into(), true).expect("it takes the message");
    }

    /// Takes the call back; the connection goes on.
    pub fn reset(mut self) {
        self.request.send_reset(Reason::CANCEL);
    }

    /// Sends the message, and waits for the end.
    pub fn finish(mut self, message: &[u8]) -> Ended {
        self.send(message);
        self.ended()
    }

    /// Waits for the end of a call whose message is sent.
    pub fn ended(self) -> Ended {
        self.connection.runtime.block_on(async {
            let response = self.response.await.expect("it answers");
            let code = |headers: &http::HeaderMap| {
                headers.get("grpc-status").map(|code| code.to_str().expect("a code").to_owned())
            };
            let in_head = code(response.headers());
            let (body, trailers) = read(response.into_body()).await;
            Ended { code: in_head.or_else(|| code(&trailers?)).expect("a status"), body }
        })
    }

    /// The status of HTTP that a call is answered with which gRPC never sees.
    pub fn refused(self) -> u16 {
        self.connection.runtime.block_on(self.response).expect("it answers").status().as_u16()
    }
}

async fn read(mut stream: RecvStream) -> (Vec<u8>, Option<http::HeaderMap>) {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        body.extend_from_slice(&data.expect("no reset"));
    }
    (body, stream.trailers().await.expect("no reset"))
}

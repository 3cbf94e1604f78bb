//! One gRPC call by hand, for what no client does: half a request, or a deadline that only the server knows.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use tokio::runtime::Runtime;

/// A call of which the headers are sent and the message is not.
pub(crate) struct RawCall {
    runtime: Runtime,
    response: ResponseFuture,
    request: SendStream<Bytes>,
}

/// How a call ended.
pub(crate) struct Ended {
    /// `grpc-status`, from the head or from the trailers.
    pub(crate) code: String,
    pub(crate) body: Vec<u8>,
}

impl RawCall {
    pub(crate) fn begin(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let mut request = http::Request::post(format!("http://{address}{path}"));
        for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")].iter().chain(headers) {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        let (response, request) = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
            let (client, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
            tokio::spawn(connection);
            let mut client = client.ready().await.expect("it takes a request");
            client.send_request(request, false).expect("it takes a request")
        });
        Self { runtime, response, request }
    }

    /// Sends the message, and does not look at what comes back.
    pub(crate) fn send(&mut self, message: &[u8]) {
        let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
        let frame: Vec<u8> = [&[0], &length[..], message].concat();
        self.request.send_data(frame.into(), true).expect("it takes the message");
    }

    /// Sends the message, and waits for the end.
    pub(crate) fn finish(mut self, message: &[u8]) -> Ended {
        self.send(message);
        self.runtime.block_on(async {
            let response = self.response.await.expect("it answers");
            let code = |headers: &http::HeaderMap| {
                headers.get("grpc-status").map(|code| code.to_str().expect("a code").to_owned())
            };
            let in_head = code(response.headers());
            let (body, trailers) = read(response.into_body()).await;
            Ended { code: in_head.or_else(|| code(&trailers?)).expect("a status"), body }
        })
    }
}

async fn read(mut stream: RecvStream) -> (Vec<u8>, Option<http::HeaderMap>) {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        body.extend_from_slice(&data.expect("no reset"));
    }
    (body, stream.trailers().await.expect("no reset"))
}

//! gRPC calls frame by frame, for requests that no client sends: half a request, or a deadline that only the server
//! knows.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use tokio::runtime::Runtime;

/// An HTTP/2 connection. Cheap to clone; it closes with its last call.
#[derive(Clone)]
pub struct RawConnection {
    runtime: Arc<Runtime>,
    address: SocketAddr,
    client: SendRequest<Bytes>,
}

/// A call whose headers are sent and whose message is not.
pub struct RawCall {
    connection: RawConnection,
    response: ResponseFuture,
    request: SendStream<Bytes>,
}

/// The answer to a request of any kind.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    head: http::HeaderMap,
    trailers: http::HeaderMap,
}

impl Reply {
    /// The value of a header, or of a trailer.
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.head.get(name).or_else(|| self.trailers.get(name))?;
        Some(value.to_str().expect("a text"))
    }

    /// The message of a failed call, which is ASCII.
    pub fn message(&self) -> String {
        let mut escaped = self.header("grpc-message").unwrap_or_default().split('%');
        let mut message = escaped.next().unwrap_or_default().to_owned();
        for part in escaped {
            let (code, rest) = part.split_at(2);
            message.push(u8::from_str_radix(code, 16).expect("an escape").into());
            message.push_str(rest);
        }
        message
    }
}

/// The end of a call.
pub struct Ended {
    /// `grpc-status`, from the headers or from the trailers.
    pub code: String,
    /// The size of the headers with the status, as HTTP/2 counts them against a client's limit.
    pub status_size: usize,
    /// The body of the response: each message with its prefix of five bytes.
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

    /// Sends a request, which may be no call, and returns its answer.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let request = http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(()).expect("a request");
        let (client, body) = (self.client.clone(), Bytes::copy_from_slice(body));
        self.runtime.block_on(async {
            let mut client = client.ready().await.expect("it takes a request");
            let (response, mut request) = client.send_request(request, body.is_empty()).expect("it takes a request");
            if !body.is_empty() {
                // A server may refuse by the head alone.
                let _ = request.send_data(body, true);
            }
            let (head, body) = response.await.expect("it answers").into_parts();
            let (_, trailers) = read(body).await;
            Reply { status: head.status.as_u16(), head: head.headers, trailers: trailers.unwrap_or_default() }
        })
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
    /// Starts a call on a connection of its own.
    pub fn begin(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        RawConnection::open(address).call(path, headers)
    }

    /// Sends the message, and does not read the response.
    pub fn send(&mut self, message: &[u8]) {
        self.send_flagged(0, message);
    }

    /// Like [`send`](Self::send), with the flag that says whether the message is compressed.
    pub fn send_flagged(&mut self, flag: u8, message: &[u8]) {
        let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
        let frame: Vec<u8> = [&[flag], &length[..], message].concat();
        // A server that refuses a call for its headers ends the stream before the message.
        let _ = self.request.send_data(frame.into(), true);
    }

    /// Resets the call's stream; the connection stays open.
    pub fn reset(mut self) {
        self.request.send_reset(Reason::CANCEL);
    }

    /// Sends the message and waits for the end.
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
            let (head, body) = response.into_parts();
            let (body, trailers) = read(body).await;
            let status = if head.headers.contains_key("grpc-status") { Some(head.headers) } else { trailers };
            let status = status.expect("a status");
            let status_size = status.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
            Ended { code: code(&status).expect("a status"), status_size, body }
        })
    }

    /// The HTTP status of a call that the server refuses before gRPC.
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

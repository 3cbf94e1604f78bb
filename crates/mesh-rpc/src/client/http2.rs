//! One connection of HTTP/2, by h2 itself.
//!
//! A request goes to h2 together with its message, so that both leave in one packet. hyper's client writes the head
//! first and the message once h2 has opened the stream, which wakes each side of a call twice as often. While the peer
//! allows no more streams, requests wait here. h2 would queue them without a limit, and would also send those whose
//! callers have left.
//!
//! Guarantees:
//! - Dropping a response, or the future that waits for it, resets the stream.
//! - While calls are in flight, a peer that is silent for 10 to 20 s, and then does not answer a ping for 10 s, is
//!   gone: the connection ends, and its calls fail with [`Broken::Silent`].
//! - A connection ends after the last call, once its [`Http2`] is dropped.
//!
//! See: decision 0049

mod line;
mod received;
mod sending;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::PingPong;
use h2::client::{Builder, Connection, SendRequest};
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;

use crate::call::{CONNECTION_WINDOW, STREAM_WINDOW};
pub use line::Broken;
use line::{InFlight, Line, silence};
pub use received::Received;
use sending::{Rest, Sending};

/// The largest size of response headers, in bytes. A list of invalid fields may exceed 16 KiB, which others allow.
const MAX_HEADER_BYTES: u32 = 64 * 1024;
/// The streams that a peer allows until it says how many.
const FIRST_STREAMS: usize = 100;
/// The bytes of a stream in h2 from which it takes no further chunk.
const SEND_BUFFER: usize = 1024 * 1024;

/// An open connection.
pub(super) struct Http2 {
    requests: SendRequest<Bytes>,
    line: Arc<Line>,
}

impl Http2 {
    /// Begins HTTP/2 on a stream. The future that is returned, too, does the work of the connection, until its end.
    /// With `pings`, a silent peer is asked whether it is still there.
    ///
    /// # Errors
    ///
    /// The stream cannot be written to.
    pub(super) async fn open<I>(
        stream: I,
        pings: bool,
    ) -> Result<(Self, impl Future<Output = Result<(), Broken>> + use<I>), h2::Error>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        let mut builder = Builder::new();
        builder.enable_push(false).max_header_list_size(MAX_HEADER_BYTES).initial_max_send_streams(FIRST_STREAMS);
        builder.max_send_buffer_size(SEND_BUFFER);
        builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (requests, mut connection) = builder.handshake(stream).await?;
        let line = Arc::new(Line::new(FIRST_STREAMS));
        let pings = if pings { connection.ping_pong() } else { None };
        let work = serve(connection, pings, Arc::clone(&line));
        Ok((Self { requests, line }, work))
    }

    /// The calls in flight, and those that wait for a stream.
    pub(super) fn calls(&self) -> usize {
        self.line.calls()
    }

    /// The streams that the peer allows.
    pub(super) fn streams(&self) -> usize {
        self.line.allowed()
    }

    /// Whether it takes no request any more.
    pub(super) fn is_closed(&self) -> bool {
        self.line.is_closed()
    }

    /// Takes a request, sends it, and waits for the head of its response. Dropping the future resets the stream.
    ///
    /// # Errors
    ///
    /// See [`Broken`]. After [`Broken::Closed`] the request is still there.
    pub(super) async fn send(&self, request: &mut Request<Body>) -> Result<Response<Received>, Broken> {
        let mut call = InFlight::on(&self.line);
        call.stream().await;
        let mut requests = self.requests.clone();
        // Ready at once: each request has a handle of its own.
        if let Err(error) = poll_fn(|cx| requests.poll_ready(cx)).await {
            self.line.close();
            return Err(Broken::Closed(error));
        }
        let (mut head, body) = std::mem::take(request).into_parts();
        let ended = body.is_end_stream();
        // Of HTTP: a body of gRPC does not know its length.
        if let Some(length) = body.size_hint().exact().filter(|length| *length > 0 || has_a_body(&head.method)) {
            head.headers.entry(CONTENT_LENGTH).or_insert_with(|| length.into());
        }
        let sent = requests.send_request(Request::from_parts(head, ()), ended);
        let (response, stream) = sent.map_err(|error| call.explained(error))?;
        drop(requests);
        let rest = if ended { Rest::default() } else { Sending::of(body, stream).begin().await };
        let response = response.await.map_err(|error| call.explained(error))?;
        call.heard();
        Ok(response.map(|stream| Received::of(stream, rest, call)))
    }
}

/// Whether an empty body of a request is one, whose length is sent.
fn has_a_body(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT)
}

/// Does the work of a connection.
async fn serve<I>(mut connection: Connection<I, Bytes>, pings: Option<PingPong>, line: Arc<Line>) -> Result<(), Broken>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let closing = Closing(line);
    let mut silent = pin!(silence(pings, &closing.0));
    // The connection is dropped at the end, which fails its calls.
    poll_fn(|cx| {
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(ended.map_err(Broken::Http2));
        }
        closing.0.allow(connection.max_concurrent_send_streams());
        silent.as_mut().poll(cx).map(|()| Err(Broken::Silent))
    })
    .await
}

/// Notes the end of a connection, also if its work is given up.
struct Closing(Arc<Line>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

//! WebSockets ([RFC 6455](https://www.rfc-editor.org/rfc/rfc6455)) for streams of responses, and for streams both ways.
//!
//! A text frame is a message as JSON. An empty one ends the stream of requests; answers go on. The close code is 1000
//! after a call that succeeded, 1012 if the client should open another socket, and else 4000 and the gRPC code. The
//! close reason is the message of the status.
//!
//! Guarantees:
//! - The next message is pulled when the last one is written, so a slow client holds no more than one. A client that
//!   takes none for [`STALLED`] is cut off.
//! - A page of a foreign origin opens no socket.
//! - A token is in no address: a client offers it beside the subprotocol, see `offer`.

mod offer;

use std::pin::{Pin, pin};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{
    AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mesh_rpc::call::Answering;
use mesh_rpc::call::error::{DOMAIN, draining, status};
use offer::Offer;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes as Payload, Error, Utf8Bytes};
use tonic::body::Body;
use tonic::{Code, Status};
use transcode::Input;

use crate::call::{Messages, PREFIX, Pulling, seal};
use crate::contract::Route;
use crate::headers::{lists, text};
use crate::refusal::{MALFORMED_HANDSHAKE, Refusal};

/// The kind of the custom rule of a stream both ways: `custom {kind: "WEBSOCKET" path: …}`.
pub(crate) const KIND: &str = "WEBSOCKET";
/// The time in which a client must take a message, or answer a ping.
const STALLED: Duration = Duration::from_secs(20);
/// The time in which a client must answer a close. A drain waits for it.
const CLOSING: Duration = Duration::from_secs(2);
/// Messages of a client that wait for the service.
const WAITING: usize = 16;
/// The bytes that are read at a time, which each socket has in memory.
const BUFFER: usize = 4096;
/// The largest message to a socket that takes none, which is refused whatever is in it, in bytes.
const UNREAD: usize = 125;
/// The largest close reason, in bytes: a control frame has 125 with its code.
const REASON: usize = 123;

/// Whether a request asks for a WebSocket.
pub(crate) fn is_asked_for(head: &Parts) -> bool {
    let asks = |name, member| lists(&head.headers, name, member);
    head.method == Method::GET && asks(CONNECTION, "upgrade") && asks(UPGRADE, "websocket")
}

/// The answer that opens the socket, and the socket to come. A token that the client offers becomes `metadata`.
///
/// # Errors
///
/// 400: the handshake is not one of version 13 over HTTP/1.1, or has two tokens, or a token alone.
pub(crate) fn accept(head: &mut Parts, metadata: &mut HeaderMap) -> Result<(Response<Body>, OnUpgrade), Refusal> {
    let offer = Offer::of(&head.headers).map_err(bad)?;
    let Some(upgrade) = head.extensions.remove::<OnUpgrade>() else {
        return Err(bad("the connection has no HTTP/1.1"));
    };
    if text(&head.headers, SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(bad("Sec-WebSocket-Version must be 13"));
    }
    let key = head.headers.get(SEC_WEBSOCKET_KEY).filter(|key| is_key(key.as_bytes()));
    let Some(key) = key else { return Err(bad("Sec-WebSocket-Key must be 16 bytes in base64")) };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if offer.speaks_json {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(offer::JSON));
    }
    metadata.extend(offer.token.map(|token| (AUTHORIZATION, token)));
    Ok((response, upgrade))
}

fn is_key(key: &[u8]) -> bool {
    STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// A handshake that cannot succeed.
pub(crate) fn bad(message: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, MALFORMED_HANDSHAKE, message)
}

/// The stream of requests that a client sends.
pub(crate) struct Requests {
    sender: Option<Sender<Bytes>>,
    path: String,
    query: Option<String>,
}

impl Requests {
    /// No request beside that of the address.
    pub(crate) fn none() -> Self {
        Self { sender: None, path: String::new(), query: None }
    }

    /// A stream of requests, each with the values of the path and the query, and the body that has it.
    pub(crate) fn of(head: &Parts) -> (Self, Body) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let (path, query) = (head.uri.path().to_owned(), head.uri.query().map(str::to_owned));
        (Self { sender: Some(sender), path, query }, body(receiver))
    }

    /// Waits until a message can be passed on. The answers go on meanwhile: the service may need room for them first.
    async fn room(&self) {
        if let Some(sender) = &self.sender {
            // The room stays, as nothing else sends. A call that has ended needs none.
            let _ = sender.reserve().await;
        }
    }

    /// Passes a message on, if there is room, or ends the stream with an empty one.
    fn send(&mut self, route: &Route, message: &Message) -> Result<(), Status> {
        let Message::Text(json) = message else {
            return Err(mistake("MALFORMED_MESSAGE", "a message is a text frame with JSON"));
        };
        let Some(sender) = &self.sender else {
            return Err(mistake("UNEXPECTED_MESSAGE", "this stream takes no messages, or no more"));
        };
        if json.is_empty() {
            self.sender = None;
            return Ok(());
        }
        let mut message = vec![0; PREFIX];
        let Some(matched) = route.matched(&self.path) else {
            return Err(mistake("UNKNOWN_PATH", "no contract has this path"));
        };
        let written = matched.request(self.query.as_deref(), Input::Json(json.as_bytes()), &[], &mut message);
        written.map_err(|bad| *Refusal::from(bad).status)?;
        // A call that has ended takes no more: its status follows.
        let _ = sender.try_send(seal(message));
        Ok(())
    }
}

fn body(mut receiver: Receiver<Bytes>) -> Body {
    let frames = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    Body::new(StreamBody::new(frames.map(|message| Ok::<_, Status>(Frame::data(message)))))
}

/// Serves a socket until the call or the client ends it.
///
/// `ended` resolves when the connection has to end: a call whose client sends has no other end at a drain.
pub(crate) async fn serve(
    upgrade: OnUpgrade,
    most: usize,
    route: Route,
    requests: Requests,
    answering: Answering,
    ended: impl Future<Output = ()>,
) {
    let most = if requests.sender.is_some() { most } else { UNREAD };
    let Ok(upgraded) = upgrade.await else { return };
    let socket = Socket::new(TokioIo::new(upgraded), most).await;
    serve_socket(socket, route, requests, answering, pin!(ended)).await;
}

async fn serve_socket<I>(
    mut socket: Socket<I>,
    route: Route,
    mut requests: Requests,
    answering: Answering,
    mut ended: Pin<&mut impl Future<Output = ()>>,
) where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut pulling: Pulling = Box::pin(async move { Messages::of(answering.await)?.pull().await });
    let end = loop {
        tokio::select! {
            pulled = &mut pulling => match pulled {
                Ok((messages, Some(message))) => {
                    if let Err(end) = socket.send(&route, &message).await {
                        break end;
                    }
                    pulling = Box::pin(messages.pull());
                }
                Ok((_, None)) => break End::Of(Status::ok("")),
                Err(status) => break End::Of(status),
            },
            received = async { requests.room().await; socket.receive().await } => match received {
                Ok(Some(message)) => {
                    if let Err(status) = requests.send(&route, &message) {
                        break End::Of(status);
                    }
                }
                Ok(None) => {}
                Err(end) => break end,
            },
            () = &mut ended => break End::Of(draining("this connection has to end")),
        }
    };
    socket.end(&end).await;
}

/// Why a socket ends.
enum End {
    /// The client has left, or does not listen.
    Gone,
    /// The call ends, or the client made a mistake.
    Of(Status),
    /// The client broke the rules of the protocol.
    Broken(CloseCode),
}

fn mistake(reason: &str, message: &str) -> Status {
    status(Code::InvalidArgument, DOMAIN, reason, message)
}

struct Socket<I> {
    socket: WebSocketStream<I>,
    /// When the client was last heard of.
    heard: Instant,
    /// Whether a ping has no answer yet.
    pinged: bool,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Socket<I> {
    async fn new(io: I, most: usize) -> Self {
        // What waits to be written needs no limit: it is one message or one pong.
        let config = WebSocketConfig::default().max_message_size(Some(most)).max_frame_size(Some(most));
        let config = config.read_buffer_size(BUFFER);
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        Self { socket, heard: Instant::now(), pinged: false }
    }

    async fn send(&mut self, route: &Route, message: &[u8]) -> Result<(), End> {
        let mut json = Vec::with_capacity(2 * message.len());
        let written = route.json(message, &mut json);
        written.map_err(|error| End::Of(crate::unary::unwritable(error)))?;
        // JSON is UTF-8.
        let text = Utf8Bytes::try_from(Payload::from(json)).map_err(|_| End::Gone)?;
        self.write(Message::Text(text)).await
    }

    async fn write(&mut self, message: Message) -> Result<(), End> {
        match timeout(STALLED, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::Gone),
        }
    }

    /// The client's next text or binary message; `None` for other frames. Pings a silent client.
    async fn receive(&mut self) -> Result<Option<Message>, End> {
        let received = tokio::select! {
            received = next(&mut self.socket) => received?,
            () = sleep_until(self.heard + STALLED) => {
                if std::mem::replace(&mut self.pinged, true) {
                    return Err(End::Gone);
                }
                self.heard = Instant::now();
                self.write(Message::Ping(Payload::new())).await?;
                return Ok(None);
            }
        };
        (self.heard, self.pinged) = (Instant::now(), false);
        match received {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => Ok(Some(message)),
            Some(Ok(_)) => Ok(None),
            Some(Err(Error::Capacity(_))) => Err(End::Broken(CloseCode::Size)),
            Some(Err(Error::Utf8(_))) => Err(End::Broken(CloseCode::Invalid)),
            Some(Err(Error::Protocol(_))) => Err(End::Broken(CloseCode::Protocol)),
            Some(Err(_)) | None => Err(End::Gone),
        }
    }

    async fn end(mut self, end: &End) {
        let ended = async {
            match end {
                End::Of(status) => self.close(code(status), reason(status.message())).await,
                End::Broken(code) => self.close(*code, "").await,
                End::Gone => Ok(()),
            }
            // A client that has closed meanwhile is no failure.
            .or_else(|error| if matches!(error, Error::ConnectionClosed) { Ok(()) } else { Err(error) })?;
            let stream = self.socket.get_mut();
            // TLS ends before its connection, so that its client knows that nothing was cut off.
            stream.shutdown().await?;
            // A connection that ends with bytes unread is reset, and the client could lose the close.
            tokio::io::copy(stream, &mut tokio::io::sink()).await?;
            Ok::<_, Error>(())
        };
        let _ = timeout(CLOSING, ended).await;
    }

    async fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), Error> {
        // A pong that waits would follow the close.
        self.socket.flush().await?;
        self.socket.close(Some(CloseFrame { code, reason: reason.into() })).await?;
        // The client answers with a close of its own.
        while let Some(Ok(_)) = self.socket.next().await {}
        Ok(())
    }
}

/// The client's next message; `None` at the end. The pong for the last one is sent first: a client that takes none
/// could fill the memory with them.
async fn next<I>(socket: &mut WebSocketStream<I>) -> Result<Option<Result<Message, Error>>, End>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    timeout(STALLED, socket.flush()).await.ok().and_then(Result::ok).ok_or(End::Gone)?;
    Ok(socket.next().await)
}

fn code(status: &Status) -> CloseCode {
    match status.code() {
        Code::Ok => CloseCode::Normal,
        Code::Unavailable => CloseCode::Restart,
        code => CloseCode::Library(4000 + code as u16),
    }
}

/// As much of a message as a close frame has room for.
fn reason(message: &str) -> &str {
    let end = (0..=message.len().min(REASON)).rev().find(|end| message.is_char_boundary(*end));
    &message[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests;

//! A gRPC call into the server's layers, and the messages of its answer.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body_util::BodyExt as _;
use mesh_rpc::call::body::status_of;
use mesh_rpc::call::error::{DOMAIN, status};
use mesh_rpc::call::{Answering, Call, Connection, Handler, MESH_CONSISTENCY, Method, write_timeout};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::shares::Share;

/// The bytes before a message: whether it is compressed, and its length.
pub(crate) const PREFIX: usize = 5;

/// Makes a call to `method`. `body` has its messages, each behind its prefix.
pub(crate) fn call(
    layers: &Handler,
    method: &'static Method,
    connection: Connection,
    deadline: Option<Duration>,
    metadata: HeaderMap,
    body: Body,
) -> Answering {
    let mut request = Request::new(body);
    let path = format!("/{}/{}", method.service, method.name);
    // The names of a contract are a path.
    *request.uri_mut() = Uri::try_from(path).unwrap_or_default();
    *request.method_mut() = http::Method::POST;
    *request.headers_mut() = metadata;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    if let Some(deadline) = deadline {
        write_timeout(headers, deadline);
    }
    layers(Call::new(method, Some(connection), request))
}

/// Writes the prefix of the message that follows it. `message` begins with [`PREFIX`] bytes for it.
pub(crate) fn seal(mut message: Vec<u8>) -> Bytes {
    let length = u32::try_from(message.len() - PREFIX).unwrap_or(u32::MAX);
    message[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    message.into()
}

/// A pull of the next message. It owns the messages, and returns them.
pub(crate) type Pulling = Pin<Box<dyn Future<Output = Result<(Messages, Option<Bytes>), Status>> + Send>>;

/// The messages of an answer.
pub(crate) struct Messages {
    body: Body,
    /// How far the events of the call are, if its caller wants to know.
    token: Option<HeaderValue>,
    /// What has arrived and is no whole message yet.
    arrived: BytesMut,
    ended: bool,
    /// Held until the end.
    _open: Option<Share>,
    /// What `is_over` has read.
    read_ahead: VecDeque<Result<Option<Bytes>, Status>>,
}

impl Messages {
    /// # Errors
    ///
    /// The call failed before its first message.
    pub(crate) fn of(response: Response<Body>) -> Result<Self, Status> {
        let (mut head, body) = response.into_parts();
        match status_of(&head.headers) {
            Some(status) if status.code() != Code::Ok => Err(status),
            status => Ok(Self {
                body,
                token: head.headers.remove(MESH_CONSISTENCY),
                arrived: BytesMut::new(),
                ended: status.is_some(),
                _open: None,
                read_ahead: VecDeque::new(),
            }),
        }
    }

    /// Holds an open stream of a client for as long as its messages.
    pub(crate) fn holding(self, open: Share) -> Self {
        Self { _open: Some(open), ..self }
    }

    /// The next message; `None` after the last one of a call that succeeded.
    ///
    /// # Errors
    ///
    /// The call failed.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if let Some(next) = self.read_ahead.pop_front() {
            return next;
        }
        loop {
            if let Some(message) = self.whole()? {
                return Ok(Some(message));
            }
            if self.ended {
                return Ok(None);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.arrived.extend_from_slice(&data),
                    Err(frame) => self.end(&frame.into_trailers().unwrap_or_default())?,
                },
                Some(Err(status)) => return Err(status),
                None => return Err(unfinished("without a status")),
            }
        }
    }

    /// [`next`](Self::next), as a future that is kept beside others.
    ///
    /// # Errors
    ///
    /// The call failed.
    pub(crate) async fn pull(mut self) -> Result<(Self, Option<Bytes>), Status> {
        let next = self.next().await?;
        Ok((self, next))
    }

    /// Whether the call ends well within this time, and all of its messages are `known` to the client.
    pub(crate) async fn is_over(&mut self, within: Duration, known: impl Fn(&[u8]) -> bool) -> bool {
        let deadline = Instant::now() + within;
        let mut read = Vec::new();
        // Reading a message can be abandoned: what has arrived is kept.
        while let Ok(next) = timeout_at(deadline, self.next()).await {
            match &next {
                Ok(None) => return true,
                Ok(Some(message)) if known(message) => read.push(next),
                _ => {
                    read.push(next);
                    break;
                }
            }
        }
        self.read_ahead = read.into();
        false
    }

    /// Takes a message off the bytes that have arrived, if one is whole.
    fn whole(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(prefix) = self.arrived.first_chunk::<PREFIX>() else { return Ok(None) };
        let [compressed, length @ ..] = *prefix;
        if compressed != 0 {
            return Err(unfinished("with a compressed message, which it was not asked for"));
        }
        let length = u32::from_be_bytes(length) as usize;
        if self.arrived.len() < PREFIX + length {
            return Ok(None);
        }
        self.arrived.advance(PREFIX);
        Ok(Some(self.arrived.split_to(length).freeze()))
    }

    fn end(&mut self, trailers: &HeaderMap) -> Result<(), Status> {
        self.ended = true;
        match status_of(trailers) {
            Some(status) if status.code() == Code::Ok && self.arrived.is_empty() => Ok(()),
            Some(status) if status.code() == Code::Ok => Err(unfinished("within a message")),
            Some(status) => Err(status),
            None => Err(unfinished("without a status")),
        }
    }

    /// The message of a unary call, and its token.
    ///
    /// # Errors
    ///
    /// The call failed.
    pub(crate) async fn only(mut self) -> Result<(Bytes, Option<HeaderValue>), Status> {
        let message = self.next().await?.ok_or_else(|| unfinished("without a message"))?;
        match self.next().await? {
            None => Ok((message, self.token)),
            Some(_) => Err(unfinished("with a second message")),
        }
    }
}

/// The call has succeeded for all that counts it.
fn unfinished(how: &str) -> Status {
    tracing::error!("a service's answer ended {how}");
    status(Code::Internal, DOMAIN, "MALFORMED_ANSWER", format!("the service's answer ended {how}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;

    fn answer(data: &[&'static [u8]], code: &'static str) -> Response<Body> {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(code));
        let data: Vec<_> = data.iter().map(|data| Frame::data(Bytes::from_static(data))).collect();
        let frames = data.into_iter().chain([Frame::trailers(trailers)]).map(Ok::<_, Status>);
        Response::new(Body::new(StreamBody::new(stream::iter(frames))))
    }

    async fn read(data: &[&'static [u8]], code: &'static str) -> (Vec<Bytes>, Option<Code>) {
        let mut messages = Messages::of(answer(data, code)).unwrap();
        let mut read = Vec::new();
        loop {
            match messages.next().await {
                Ok(Some(message)) => read.push(message),
                Ok(None) => return (read, None),
                Err(status) => return (read, Some(status.code())),
            }
        }
    }

    #[tokio::test]
    async fn messages_are_read_however_they_are_cut() {
        let whole: &[u8] = b"\0\0\0\0\x02ab\0\0\0\0\0\0\0\0\0\x01c";
        let expected = [&b"ab"[..], b"", b"c"];
        assert_eq!(read(&[whole], "0").await, (expected.map(Bytes::from_static).into(), None));
        for cut in 1..whole.len() {
            let (first, second) = whole.split_at(cut);
            assert_eq!(read(&[first, second], "0").await.0, expected, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn messages_before_a_failure_are_read() {
        assert_eq!(read(&[b"\0\0\0\0\x01a"], "14").await, (vec![Bytes::from_static(b"a")], Some(Code::Unavailable)));
    }

    #[tokio::test]
    async fn message_that_is_cut_off_is_a_failure() {
        assert_eq!(read(&[b"\0\0\0\0\x02a"], "0").await.1, Some(Code::Internal));
        assert_eq!(read(&[b"\x01\0\0\0\0"], "0").await.1, Some(Code::Internal));
    }

    #[tokio::test]
    async fn unary_answer_has_one_message() {
        let only = async |data: &[&'static [u8]]| Messages::of(answer(data, "0")).unwrap().only().await;
        assert_eq!(only(&[b"\0\0\0\0\x01a"]).await.unwrap().0, "a");
        assert!(only(&[]).await.is_err() && only(&[b"\0\0\0\0\0\0\0\0\0\0"]).await.is_err());
    }
}

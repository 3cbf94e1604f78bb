//! The stream of a page: the whole state, then what changes, as
//! [server-sent events](https://html.spec.whatwg.org/multipage/server-sent-events.html).

use std::convert::Infallible;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;
use hyper::body::Frame;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::body::Body;

use crate::answer::refusal;
use crate::hub::{Hub, Reader};

/// An open stream.
struct Stream {
    hub: Arc<Hub>,
    _reader: Reader,
    changes: Receiver<Bytes>,
    /// Whether the page has the whole state.
    has_state: bool,
    draining: CancellationToken,
}

/// The answer to a page. It ends with a drain, and the page connects again.
pub(crate) fn answer(hub: &Arc<Hub>, draining: &CancellationToken) -> Response<Body> {
    let Some((reader, changes)) = hub.open() else {
        let message = "too many pages are open: close one";
        return refusal(StatusCode::SERVICE_UNAVAILABLE, Code::ResourceExhausted, "OVERLOADED", message);
    };
    let stream =
        Stream { hub: Arc::clone(hub), _reader: reader, changes, has_state: false, draining: draining.clone() };
    let frames = stream::unfold(stream, |mut stream| async move {
        let data = stream.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(data)), stream))
    });
    let mut response = Response::new(Body::new(BoxBody::new(StreamBody::new(frames))));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx buffers an answer without this header.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.has_state, true) {
            self.hub.settled().await;
            return Some(event("state", &self.hub.whole()));
        }
        tokio::select! {
            () = self.draining.cancelled() => None,
            received = self.changes.recv() => Some(match received {
                Ok(changes) => event("change", &changes),
                Err(RecvError::Lagged(_)) => event("state", &self.hub.whole()),
                Err(RecvError::Closed) => return None,
            }),
        }
    }
}

/// JSON has no line feeds of its own.
fn event(name: &str, json: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(json.len() + name.len() + 16);
    event.put_slice(b"event: ");
    event.put_slice(name.as_bytes());
    event.put_slice(b"\ndata: ");
    event.put_slice(json);
    event.put_slice(b"\n\n");
    event.freeze()
}

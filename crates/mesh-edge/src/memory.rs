//! The memory that bodies take: a client has 64 MiB at most, and all clients have 256 MiB.
//!
//! Guarantees: a client that does not send the rest of its requests, or does not read its answers, leaves memory to
//! others.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use mesh_rpc::call::body::trailers;
use mesh_rpc::call::error::overloaded;
use tonic::Status;
use tonic::body::Body;

use crate::shares::{Share, Shares};

/// The limit for all bodies, in bytes.
const ALL: usize = 256 * 1024 * 1024;
/// What one client may have of it: bodies that do not arrive then leave memory for those of others.
const EACH: usize = ALL / 4;
/// The largest frame of an answer that does not count, in bytes. Its stream takes as much.
const SMALL: usize = 4 * 1024;

/// An error of a body.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The memory of all clients. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Memory(Arc<Shares>);

impl Default for Memory {
    fn default() -> Self {
        Self(Shares::new(EACH, ALL))
    }
}

impl Memory {
    /// Memory for a client, none yet.
    pub(crate) fn of(&self, client: IpAddr) -> Share {
        self.0.of(client)
    }

    #[cfg(test)]
    pub(crate) fn is_unused(&self) -> bool {
        self.0.is_unused()
    }
}

/// Counts bytes that a client has sent.
///
/// # Errors
///
/// RESOURCE_EXHAUSTED, `OVERLOADED`. The client may retry.
pub(crate) fn take(share: &mut Share, bytes: usize) -> Result<(), Status> {
    if share.take(bytes) { Ok(()) } else { Err(exhausted()) }
}

/// Counts a part of an answer until its last byte is written. `share` is one of the client.
///
/// # Errors
///
/// RESOURCE_EXHAUSTED, `OVERLOADED`. The client may retry.
pub(crate) fn hold(share: &Share, bytes: Bytes) -> Result<Bytes, Status> {
    if bytes.len() <= SMALL {
        return Ok(bytes);
    }
    let mut held = share.another();
    take(&mut held, bytes.len())?;
    Ok(Bytes::from_owner(Held { bytes, _share: held }))
}

fn exhausted() -> Status {
    overloaded("other requests and answers take the memory for them; retry later", Duration::from_secs(1))
}

struct Held {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A request body that counts as it arrives, until it is read or dropped.
pub(crate) struct Arriving<B> {
    body: B,
    share: Share,
}

impl<B> Arriving<B> {
    pub(crate) fn new(body: B, share: Share) -> Self {
        Self { body, share }
    }
}

impl<B> http_body::Body for Arriving<B>
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let polled = task::ready!(Pin::new(&mut self.body).poll_frame(cx));
            let Some(frame) = polled.transpose().map_err(Into::into)? else { return Poll::Ready(None) };
            // A request has no trailers.
            let Ok(data) = frame.into_data() else { continue };
            take(&mut self.share, data.len())?;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a gRPC answer, whose parts count until they are written. `open` is held until its end.
pub(crate) struct Leaving {
    /// `None` after the end.
    body: Option<Body>,
    share: Share,
    _open: Option<Share>,
}

impl Leaving {
    pub(crate) fn new(body: Body, share: Share, open: Option<Share>) -> Self {
        Self { body: Some(body), share, _open: open }
    }
}

impl http_body::Body for Leaving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let Some(frame) = task::ready!(Pin::new(body).poll_frame(cx)).transpose()? else { return Poll::Ready(None) };
        let frame = match frame.into_data() {
            Ok(data) => hold(&self.share, data).map(Frame::data).unwrap_or_else(|status| {
                self.body = None;
                Frame::trailers(trailers(&status))
            }),
            Err(trailers) => trailers,
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use tonic::Code;

    fn client(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    #[tokio::test]
    async fn request_that_does_not_end_leaves_memory_to_others() {
        let memory = Memory::default();
        let frame = |bytes| Ok::<_, Status>(Frame::data(Bytes::from(vec![0; bytes])));
        let arriving = |number, bytes| {
            let endless = stream::iter([frame(bytes)]);
            Body::new(Arriving::new(StreamBody::new(endless), memory.of(client(number))))
        };
        let mut stalled = arriving(1, EACH);
        assert!(stalled.frame().await.unwrap().is_ok());
        let refused = arriving(1, 1).frame().await.unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(arriving(2, EACH).frame().await.unwrap().is_ok(), "another client");
        drop(stalled);
        assert!(memory.is_unused());
    }

    #[tokio::test]
    async fn answer_counts_until_its_last_byte_is_written() {
        let memory = Memory::default();
        let leaving = |bytes: usize| {
            let body = Body::new(Full::new(Bytes::from(vec![0; bytes])));
            Leaving::new(body, memory.of(client(1)), None)
        };
        let unread = leaving(EACH).frame().await.unwrap().unwrap().into_data().unwrap();
        let refused = leaving(SMALL + 1).frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(refused["grpc-status"], "8");
        assert!(leaving(SMALL).frame().await.unwrap().unwrap().is_data(), "its stream takes as much");
        drop(unread);
        assert!(memory.is_unused());
        assert!(leaving(EACH).frame().await.unwrap().unwrap().is_data());
    }
}

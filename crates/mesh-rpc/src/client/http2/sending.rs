//! The body of a request, on its way to the peer.

use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;
use tokio::task::AbortHandle;
use tonic::Status;
use tonic::body::Body;

/// Sends a body. The first chunk goes to h2 at once, since it is in memory already; each other one waits until the peer
/// has room for those before it.
pub(super) struct Sending {
    body: Body,
    stream: SendStream<Bytes>,
    begun: bool,
    /// A chunk that waits, and whether it is the last one.
    waiting: Option<(Bytes, bool)>,
}

/// What is left of a body, which a task sends. A drop gives it up.
#[derive(Default)]
pub(super) struct Rest(Option<AbortHandle>);

impl Drop for Rest {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Sending {
    pub(super) fn of(body: Body, stream: SendStream<Bytes>) -> Self {
        Self { body, stream, begun: false, waiting: None }
    }

    /// Sends what is there of the body. The rest needs a task of its own: the peer may answer before it.
    pub(super) async fn begin(mut self) -> Rest {
        let ended = poll_fn(|cx| Poll::Ready(Pin::new(&mut self).poll(cx).is_ready())).await;
        if ended { Rest::default() } else { Rest(Some(tokio::spawn(self).abort_handle())) }
    }

    /// Hands a chunk to h2.
    fn send(&mut self, chunk: Bytes, is_last: bool) -> Poll<()> {
        self.begun = true;
        let sent = self.stream.send_data(chunk, is_last);
        if sent.is_err() {
            self.stream.send_reset(Reason::INTERNAL_ERROR);
        }
        if is_last || sent.is_err() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits until the peer has room; false if it wants no more.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        while self.stream.capacity() == 0 {
            if !matches!(ready!(self.stream.poll_capacity(cx)), Some(Ok(_))) {
                return Poll::Ready(false);
            }
        }
        Poll::Ready(true)
    }
}

/// Ends with the body, or with the stream.
impl Future for Sending {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.waiting.is_some() && !ready!(self.poll_room(cx)) {
                return Poll::Ready(());
            }
            if let Some((chunk, is_last)) = self.waiting.take()
                && self.send(chunk, is_last).is_ready()
            {
                return Poll::Ready(());
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                // The peer may end the stream meanwhile.
                return self.stream.poll_reset(cx).map(|_| ());
            };
            match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
                Some(Ok(Ok(chunk))) => {
                    let is_last = self.body.is_end_stream();
                    if self.begun && !chunk.is_empty() {
                        // Not of its size: a stream that waits must not hold room that others need.
                        self.stream.reserve_capacity(1);
                        self.waiting = Some((chunk, is_last));
                    } else if self.send(chunk, is_last).is_ready() {
                        return Poll::Ready(());
                    }
                }
                Some(Ok(Err(frame))) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        if self.stream.send_trailers(trailers).is_err() {
                            self.stream.send_reset(Reason::INTERNAL_ERROR);
                        }
                        return Poll::Ready(());
                    }
                }
                Some(Err(status)) => {
                    self.stream.send_reset(reason(&status));
                    return Poll::Ready(());
                }
                None => return self.send(Bytes::new(), true),
            }
        }
    }
}

/// Why a body broke off: as its own sender said, if that spoke HTTP/2.
fn reason(status: &Status) -> Reason {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(reason) = error.downcast_ref::<h2::Error>().and_then(h2::Error::reason) {
            return reason;
        }
        cause = error.source();
    }
    Reason::INTERNAL_ERROR
}

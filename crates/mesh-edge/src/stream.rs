//! The messages of a call as a body of text. The next message is pulled when the client has taken the last one, so a
//! slow client holds no more than one.

use std::pin::Pin;
use std::task::{self, Poll};

use bytes::Bytes;
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;
use transcode::WireError;

use crate::call::{Messages, Pulling};
use crate::unary::unwritable;

/// What a stream has next.
pub(crate) enum Step<'s> {
    /// A message.
    Message(&'s [u8]),
    /// The call has succeeded.
    End,
    /// The call has failed.
    Failed(&'s Status),
}

/// A body of what `write` makes of each step.
pub(crate) fn frames<W>(messages: Messages, write: W) -> Body
where
    W: FnMut(Step<'_>, &mut Vec<u8>) -> Result<(), WireError> + Send + Unpin + 'static,
{
    Body::new(Frames { pulling: Some(Box::pin(messages.pull())), write })
}

struct Frames<W> {
    /// `None` after the end.
    pulling: Option<Pulling>,
    write: W,
}

impl<W> Frames<W>
where
    W: FnMut(Step<'_>, &mut Vec<u8>) -> Result<(), WireError>,
{
    /// The text of a step, and whether more follows.
    fn text(&mut self, next: Result<Option<Bytes>, Status>) -> (Vec<u8>, bool) {
        let mut out = Vec::new();
        let written = match &next {
            Ok(Some(message)) => (self.write)(Step::Message(message), &mut out),
            Ok(None) => (self.write)(Step::End, &mut out),
            Err(status) => (self.write)(Step::Failed(status), &mut out),
        };
        let Err(error) = written else { return (out, matches!(next, Ok(Some(_)))) };
        // A message that JSON cannot express is not skipped: the client would miss it without knowing.
        out.clear();
        let _ = (self.write)(Step::Failed(&unwritable(error)), &mut out);
        (out, false)
    }
}

impl<W> http_body::Body for Frames<W>
where
    W: FnMut(Step<'_>, &mut Vec<u8>) -> Result<(), WireError> + Send + Unpin + 'static,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            let Some(pulling) = &mut self.pulling else { return Poll::Ready(None) };
            let (messages, next) = task::ready!(pulling.as_mut().poll(cx))
                .map_or_else(|status| (None, Err(status)), |(messages, next)| (Some(messages), Ok(next)));
            let (text, more) = self.text(next);
            self.pulling = messages.filter(|_| more).map(|messages| Box::pin(messages.pull()) as Pulling);
            if !text.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(text.into()))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pulling.is_none()
    }
}

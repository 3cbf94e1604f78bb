//! A stream that reports its first bytes from the peer.
//!
//! In TLS 1.3 a client has finished its part of the handshake before the server has checked the client's certificate. A
//! connection that is used at once would lose its first calls, and the caller could not know whether they were processed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// A stream, and the receiver of its first outcome.
pub(super) struct Confirmed<I> {
    stream: I,
    first: Option<oneshot::Sender<io::Result<()>>>,
}

impl<I> Confirmed<I> {
    /// The receiver gets the outcome of the first read, and an error of its own if there is none.
    pub(super) fn new(stream: I) -> (Self, oneshot::Receiver<io::Result<()>>) {
        let (first, confirmed) = oneshot::channel();
        (Self { stream, first: Some(first) }, confirmed)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Confirmed<I> {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(task, buffer));
        if let Some(first) = self.first.take() {
            let _ = first.send(match &read {
                Ok(()) if buffer.filled().len() == before => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            });
        }
        Poll::Ready(read)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Confirmed<I> {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(task, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(task, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test]
    async fn first_bytes_confirm_a_stream_and_an_end_does_not() {
        let (near, mut far) = duplex(8);
        let (mut stream, mut confirmed) = Confirmed::new(near);
        assert!(confirmed.try_recv().is_err());
        far.write_all(b"ab").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'a');
        assert!(confirmed.try_recv().unwrap().is_ok());

        let (near, far) = duplex(8);
        let (mut stream, confirmed) = Confirmed::new(near);
        drop(far);
        assert!(stream.read_u8().await.is_err());
        assert_eq!(confirmed.await.unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}

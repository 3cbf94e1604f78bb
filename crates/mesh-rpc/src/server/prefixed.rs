//! A stream whose first bytes have been read already.

use std::io::Result;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads `start` and then what follows it. Both come in one read if the rest has arrived: hyper would enlarge its
/// buffer for a head that comes in two.
pub(super) struct Prefixed<I> {
    start: Bytes,
    stream: I,
}

impl<I> Prefixed<I> {
    pub(super) fn new(start: Vec<u8>, stream: I) -> Self {
        Self { start: start.into(), stream }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Prefixed<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if self.start.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let first = self.start.len().min(buffer.remaining());
        buffer.put_slice(&self.start[..first]);
        self.start.advance(first);
        if buffer.remaining() > 0
            && let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_read(cx, buffer)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Prefixed<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test]
    async fn start_and_rest_come_in_one_read() {
        let (mut client, stream) = duplex(64);
        let mut prefixed = Prefixed::new(b"GET ".to_vec(), stream);
        client.write_all(b"/ HTTP/1.1").await.unwrap();
        let mut buffer = [0; 64];
        let read = prefixed.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..read], b"GET / HTTP/1.1");
    }

    #[tokio::test]
    async fn start_comes_without_the_rest_and_in_parts() {
        let (mut client, stream) = duplex(64);
        let mut prefixed = Prefixed::new(b"GET ".to_vec(), stream);
        let mut buffer = [0; 3];
        for expected in ["GET", " "] {
            let read = prefixed.read(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..read], expected.as_bytes());
        }
        client.write_all(b"/").await.unwrap();
        assert_eq!(prefixed.read(&mut buffer).await.unwrap(), 1);
        drop(client);
        assert_eq!(prefixed.read(&mut buffer).await.unwrap(), 0);
    }
}

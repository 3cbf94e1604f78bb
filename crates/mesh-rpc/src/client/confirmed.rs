//! A stream that reports its first bytes from the peer.
//!
//! In TLS 1.3 a client has finished its part of the handshake before the server has checked the client's certificate. A
//! connection that is used at once would lose its first calls, and the caller could not know whether they were
//! processed.

use std::io;

use tokio::sync::oneshot;

use super::watched::{Watch, Watched};

/// The sender of the first outcome.
pub(super) struct Confirmed(Option<oneshot::Sender<io::Result<()>>>);

impl Confirmed {
    /// The receiver gets the outcome of the first read, and an error of its own if there is none.
    pub(super) fn of<I>(stream: I) -> (Watched<I, Self>, oneshot::Receiver<io::Result<()>>) {
        let (first, confirmed) = oneshot::channel();
        (Watched { stream, watch: Self(Some(first)) }, confirmed)
    }
}

impl Watch for Confirmed {
    fn read(&mut self, outcome: io::Result<()>, bytes: &[u8]) -> io::Result<()> {
        if let Some(first) = self.0.take() {
            let _ = first.send(match &outcome {
                Ok(()) if bytes.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            });
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    #[tokio::test]
    async fn first_bytes_confirm_a_stream_and_an_end_does_not() {
        let (near, mut far) = duplex(8);
        let (mut stream, mut confirmed) = Confirmed::of(near);
        assert!(confirmed.try_recv().is_err());
        far.write_all(b"ab").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'a');
        assert!(confirmed.try_recv().unwrap().is_ok());

        let (near, far) = duplex(8);
        let (mut stream, confirmed) = Confirmed::of(near);
        drop(far);
        assert!(stream.read_u8().await.is_err());
        assert_eq!(confirmed.await.unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}

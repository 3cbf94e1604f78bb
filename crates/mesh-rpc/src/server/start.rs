//! The first bytes of a connection, which say its protocol.
//!
//! Guarantees: HTTP/2 begins with its preface, whose end is a SETTINGS frame ([RFC 9113,
//! 3.4](https://www.rfc-editor.org/rfc/rfc9113#section-3.4)). A client that begins with another frame receives GOAWAY
//! with PROTOCOL_ERROR: h2 would answer the frame.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, sink};

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The bytes of a frame before its payload: length, type, flags, stream.
const FRAME_HEADER: usize = 9;
/// SETTINGS without one, and GOAWAY with PROTOCOL_ERROR.
const REFUSAL: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01";
/// What is read of a client that is refused: a connection that closes with unread bytes loses its last ones.
const UNREAD: u64 = 64 * 1024;

/// The bytes that were read.
pub(super) struct Start {
    pub(super) bytes: Vec<u8>,
    pub(super) is_http_2: bool,
}

/// Reads until the protocol is known.
///
/// # Errors
///
/// The client leaves, or begins HTTP/2 in another way.
pub(super) async fn read(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<Start> {
    let mut bytes = Vec::with_capacity(PREFACE.len() + FRAME_HEADER);
    while bytes.len() < PREFACE.len() && PREFACE.starts_with(&bytes) {
        read_up_to(PREFACE.len(), stream, &mut bytes).await?;
    }
    let is_http_2 = bytes == PREFACE;
    if is_http_2 {
        while bytes.len() < PREFACE.len() + FRAME_HEADER {
            read_up_to(PREFACE.len() + FRAME_HEADER, stream, &mut bytes).await?;
        }
        if !matches!(bytes[PREFACE.len()..], [_, _, _, 4, flags, _, 0, 0, 0] if flags & 1 == 0) {
            stream.write_all(REFUSAL).await?;
            stream.shutdown().await?;
            copy(&mut stream.take(UNREAD), &mut sink()).await?;
            return Err(Error::new(ErrorKind::InvalidData, "the first frame is not SETTINGS"));
        }
    }
    Ok(Start { bytes, is_http_2 })
}

async fn read_up_to(length: usize, stream: &mut (impl AsyncRead + Unpin), bytes: &mut Vec<u8>) -> Result<()> {
    match stream.take((length - bytes.len()) as u64).read_buf(bytes).await? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    /// What is read of a client that sends `bytes` and leaves, and what it receives.
    async fn start(bytes: &[u8]) -> (Option<bool>, Vec<u8>) {
        let (mut client, mut server) = duplex(1024);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let start = read(&mut server).await.ok();
        drop(server);
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        (start.map(|start| start.is_http_2), received)
    }

    #[tokio::test]
    async fn http_2_begins_with_settings() {
        let frame = |kind, flags, stream| [PREFACE, &[0, 0, 0, kind, flags, 0, 0, 0, stream]].concat();
        assert_eq!(start(b"GET / HTTP/1.1\r\n").await, (Some(false), Vec::new()));
        assert_eq!(start(&frame(4, 0, 0)).await, (Some(true), Vec::new()));
        for (name, kind, flags, stream) in
            [("PING", 6, 0, 0), ("an acknowledgement", 4, 1, 0), ("SETTINGS of a stream", 4, 0, 1)]
        {
            assert_eq!(start(&frame(kind, flags, stream)).await, (None, REFUSAL.to_vec()), "{name}");
        }
        assert_eq!(start(PREFACE).await, (None, Vec::new()));
    }
}

//! Compression of messages: gzip, as gRPC's document on
//! [compression](https://github.com/grpc/grpc/blob/master/doc/compression.md) defines it.
//!
//! The flag of each message says whether it is compressed, and the header `grpc-encoding` says how. A message whose
//! flag says uncompressed is taken whatever the header says.

use std::io::{Read as _, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{self, Poll};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::error::{DOMAIN, overloaded, status};

/// The header that names the compression of the messages of a call.
pub const GRPC_ENCODING: &str = "grpc-encoding";
/// The header that lists the compressions that a side takes.
pub const GRPC_ACCEPT_ENCODING: &str = "grpc-accept-encoding";
/// What this side takes.
pub const ACCEPTED: HeaderValue = HeaderValue::from_static("identity,gzip");

/// A message below this size is sent as it is: its packet does not get smaller.
const MIN_COMPRESSED: usize = 1024;
/// The largest message that is recoded, before and after: above every limit of a contract, which the codec enforces. A
/// larger one is refused before it is collected.
const MAX_MESSAGE: usize = 65 * 1024 * 1024;
/// The flag and the length before each message.
const PREFIX: usize = 5;

/// The compression of the messages of a body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Encoding {
    /// gzip.
    Gzip,
    /// Another one.
    Unsupported,
}

impl Encoding {
    /// Removes `grpc-encoding`, and the length of what will be decompressed. `None`: no message is compressed.
    pub fn take(headers: &mut HeaderMap) -> Option<Self> {
        let encoding = match headers.remove(GRPC_ENCODING)?.as_bytes() {
            b"identity" => return None,
            b"gzip" => Self::Gzip,
            _ => Self::Unsupported,
        };
        headers.remove(CONTENT_LENGTH);
        Some(encoding)
    }
}

/// The decompressed bytes of the last message of a body, which count in a total until the next message.
pub struct Decompressed {
    bytes: AtomicUsize,
    total: Arc<AtomicUsize>,
    limit: usize,
}

impl Decompressed {
    /// No bytes yet. `limit` is the limit of `total`.
    pub fn of(total: &Arc<AtomicUsize>, limit: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), total: Arc::clone(total), limit }
    }

    fn add(&self, bytes: usize) -> Result<(), Status> {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.total.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.limit {
            return Ok(());
        }
        let message = "the decompressed messages in flight exceed the limit of this instance";
        Err(overloaded(message, std::time::Duration::from_secs(1)))
    }
}

impl Decompressed {
    fn release(&self) {
        self.total.fetch_sub(self.bytes.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Drop for Decompressed {
    fn drop(&mut self) {
        self.release();
    }
}

/// Decompresses the messages of `body`. A message that is not compressed passes as it arrives.
///
/// # Errors
///
/// The body ends with UNIMPLEMENTED at a compressed message in an unsupported encoding, with INVALID_ARGUMENT at one
/// that is no gzip, and with RESOURCE_EXHAUSTED at one that is too large, alone or with the others of `counted`.
pub fn decode(body: Body, encoding: Encoding, counted: Arc<Decompressed>) -> Body {
    let recode = move |flag: u8, message: Bytes| match (flag, encoding) {
        (0, _) => Ok((flag, message)),
        (_, Encoding::Gzip) => gunzip(&message, &counted).map(|message| (0, message)),
        (_, Encoding::Unsupported) => Err(unsupported()),
    };
    Body::new(Recoded { body, buffer: BytesMut::new(), passing: 0, passes: |flag, _| flag == 0, recode })
}

/// Whether [`decode`] ended a body with this status.
pub fn is_undecoded(status: &Status) -> bool {
    const REASONS: [&str; 3] = ["UNSUPPORTED_COMPRESSION", "MALFORMED_MESSAGE", "MESSAGE_TOO_LARGE"];
    status.get_details_error_info().is_some_and(|info| info.domain == DOMAIN && REASONS.contains(&&*info.reason))
}

/// Compresses the messages of `body` with gzip.
pub fn encode(body: Body) -> Body {
    let recode = |flag: u8, message: Bytes| match gzip(&message) {
        Some(compressed) if flag == 0 => Ok((1, compressed)),
        _ => Ok((flag, message)),
    };
    let passes = |flag, length| flag != 0 || !(MIN_COMPRESSED..=MAX_MESSAGE).contains(&length);
    Body::new(Recoded { body, buffer: BytesMut::new(), passing: 0, passes, recode })
}

fn gunzip(message: &[u8], counted: &Decompressed) -> Result<Bytes, Status> {
    counted.release();
    let mut decoder = GzDecoder::new(message);
    let (mut decompressed, mut part) = (BytesMut::new(), vec![0; 16 * 1024]);
    loop {
        match decoder.read(&mut part) {
            Ok(0) => return Ok(decompressed.freeze()),
            Ok(length) if decompressed.len() + length > MAX_MESSAGE => return Err(too_large()),
            Ok(length) => {
                counted.add(length)?;
                decompressed.extend_from_slice(&part[..length]);
            }
            Err(_) => {
                let message = "a message is marked as compressed with gzip, and does not decompress";
                return Err(status(Code::InvalidArgument, DOMAIN, "MALFORMED_MESSAGE", message));
            }
        }
    }
}

/// `None`: the message is better sent as it is.
fn gzip(message: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(message).ok()?;
    let compressed = encoder.finish().ok()?;
    (compressed.len() < message.len()).then(|| compressed.into())
}

fn too_large() -> Status {
    let message = "the message is larger than any contract allows";
    status(Code::ResourceExhausted, DOMAIN, "MESSAGE_TOO_LARGE", message)
}

fn unsupported() -> Status {
    let message = "the compression of the message is not supported; grpc-accept-encoding lists what is";
    let mut status = status(Code::Unimplemented, DOMAIN, "UNSUPPORTED_COMPRESSION", message);
    let accepted = tonic::metadata::MetadataValue::from_static("identity,gzip");
    status.metadata_mut().insert(GRPC_ACCEPT_ENCODING, accepted);
    status
}

/// A body whose messages are changed one by one.
struct Recoded<R> {
    body: Body,
    buffer: BytesMut,
    /// The rest of a message that passes as it is.
    passing: usize,
    /// Whether a message with this flag and length passes as it is.
    passes: fn(u8, usize) -> bool,
    recode: R,
}

impl<R: FnMut(u8, Bytes) -> Result<(u8, Bytes), Status>> Recoded<R> {
    /// The next message that has arrived as a whole, or the next part of one that passes.
    fn next(&mut self) -> Option<Result<Bytes, Status>> {
        if self.passing == 0 {
            let mut prefix = self.buffer.get(..PREFIX)?;
            let (flag, length) = (prefix.get_u8(), prefix.get_u32() as usize);
            if !(self.passes)(flag, length) {
                return self.recoded(flag, length);
            }
            self.passing = PREFIX + length;
        }
        let part = self.buffer.split_to(self.passing.min(self.buffer.len()));
        self.passing -= part.len();
        (!part.is_empty()).then(|| Ok(part.freeze()))
    }

    fn recoded(&mut self, flag: u8, length: usize) -> Option<Result<Bytes, Status>> {
        if length > MAX_MESSAGE {
            return Some(Err(too_large()));
        }
        if self.buffer.len() < PREFIX + length {
            return None;
        }
        let message = self.buffer.split_to(PREFIX + length).freeze().slice(PREFIX..);
        Some((self.recode)(flag, message).map(|(flag, message)| {
            let mut framed = BytesMut::with_capacity(PREFIX + message.len());
            framed.put_u8(flag);
            // A message has at most 4 GiB: its length came as 32 bits, and only gets smaller here or is limited.
            framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
            framed.extend_from_slice(&message);
            framed.freeze()
        }))
    }
}

impl<R: FnMut(u8, Bytes) -> Result<(u8, Bytes), Status> + Unpin> http_body::Body for Recoded<R> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(message) = self.next() {
                return Poll::Ready(Some(message.map(Frame::data)));
            }
            match task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                // The start of a message without its end: the codec reports it.
                None if !self.buffer.is_empty() => {
                    let rest = self.buffer.split().freeze();
                    return Poll::Ready(Some(Ok(Frame::data(rest))));
                }
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.buffer.is_empty() && self.body.is_end_stream()
    }
}

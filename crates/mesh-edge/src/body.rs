//! The body of a request: read into memory within limits, and decompressed.

use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use tokio::time::timeout;
use tonic::Code;

use crate::headers;
use crate::memory;
use crate::refusal::Refusal;
use crate::shares::Share;

/// The time in which a body has to arrive.
pub(crate) const ARRIVAL: Duration = Duration::from_secs(60);

/// Reads a body of a client.
pub(crate) struct Reader {
    /// The largest body, in bytes, also after it is decompressed.
    pub(crate) most: usize,
    /// The memory of the client.
    pub(crate) share: Share,
}

impl Reader {
    /// Reads a body to its end.
    ///
    /// # Errors
    ///
    /// 413: it is too large. 415: its encoding is not known. 408: it did not arrive in time. 400: it broke off, or is
    /// not what its encoding says. 429: other bodies take the memory for them; the client may retry.
    pub(crate) async fn read<B>(mut self, headers: &HeaderMap, body: B) -> Result<Bytes, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let gzip = match headers::text(headers, CONTENT_ENCODING).map(str::trim) {
            None | Some("" | "identity") => false,
            Some("gzip") => true,
            Some(_) => return Err(unknown_encoding()),
        };
        let announced = headers::text(headers, CONTENT_LENGTH).and_then(|length| length.parse().ok());
        if announced.is_some_and(|length: usize| length > self.most) {
            return Err(self.too_large());
        }
        let read = timeout(ARRIVAL, self.collect(body)).await.map_err(|_| late())??;
        if !gzip {
            return Ok(read);
        }
        let decompressed = self.decompress(&read)?;
        self.count(decompressed.len())?;
        Ok(decompressed)
    }

    fn count(&mut self, bytes: usize) -> Result<(), Refusal> {
        memory::take(&mut self.share, bytes).map_err(|status| Refusal::own("OVERLOADED", status))
    }

    async fn collect<B>(&mut self, mut body: B) -> Result<Bytes, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let mut first = Bytes::new();
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| broken_off())?.into_data() else { continue };
            self.count(data.len())?;
            if self.share.amount() > self.most {
                return Err(self.too_large());
            }
            // Most bodies arrive at once, and need no copy.
            if first.is_empty() {
                first = data;
            } else {
                read.extend_from_slice(&data);
            }
        }
        Ok(if read.is_empty() { first } else { [&first[..], &read].concat().into() })
    }

    fn decompress(&self, compressed: &[u8]) -> Result<Bytes, Refusal> {
        let mut bytes = Vec::new();
        // One more than allowed, so that a larger body is noticed.
        let mut decoder = MultiGzDecoder::new(compressed).take(self.most as u64 + 1);
        decoder.read_to_end(&mut bytes).map_err(|_| {
            let message = "the body is not gzip, as its Content-Encoding says";
            Refusal::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, "MALFORMED_ENCODING", message)
        })?;
        if bytes.len() > self.most { Err(self.too_large()) } else { Ok(bytes.into()) }
    }

    fn too_large(&self) -> Refusal {
        let message = format!("the body is larger than {} bytes", self.most);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, "MESSAGE_TOO_LARGE", message)
    }
}

fn unknown_encoding() -> Refusal {
    let message = "the Content-Encoding of a body is gzip, or none";
    Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, "UNSUPPORTED_ENCODING", message)
}

fn late() -> Refusal {
    let message = "the body did not arrive in time";
    Refusal::new(StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message)
}

fn broken_off() -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, Code::Cancelled, "BODY_BROKEN_OFF", "the body broke off before its end")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use flate2::write::GzEncoder;
    use futures_util::stream;
    use http::HeaderValue;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};
    use std::io::Write as _;

    fn reader(memory: &Memory) -> Reader {
        Reader { most: 1000, share: memory.of(std::net::Ipv4Addr::LOCALHOST.into()) }
    }

    fn headers(encoding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(encoding))])
    }

    async fn read(encoding: &'static str, body: impl Into<Bytes>) -> Result<Bytes, u16> {
        let memory = Memory::default();
        let read = reader(&memory).read(&headers(encoding), Full::new(body.into())).await;
        assert!(memory.is_unused());
        read.map_err(|refusal| refusal.http.as_u16())
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn body_of_many_frames_is_whole() {
        let frames =
            ["ab", "", "c", "d"].map(|data| Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(data.as_bytes()))));
        let body = StreamBody::new(stream::iter(frames));
        assert_eq!(reader(&Memory::default()).read(&HeaderMap::new(), body).await.map_err(|_| ()).unwrap(), "abcd");
    }

    #[tokio::test]
    async fn body_is_decompressed_within_the_limit() {
        assert_eq!(read("gzip", gzipped(b"abc")).await.unwrap(), "abc");
        assert_eq!(read("gzip", gzipped(&[0; 1001])).await, Err(413));
        assert_eq!(read("gzip", gzipped(&[0; 10_000_000])).await, Err(413), "a bomb");
        assert_eq!(read("gzip", "abc").await, Err(400));
        assert_eq!(read("br", "abc").await, Err(415));
    }

    #[tokio::test]
    async fn body_over_the_limit_is_refused() {
        assert!(read("identity", vec![0; 1000]).await.is_ok());
        assert_eq!(read("identity", vec![0; 1001]).await, Err(413));
        let announced = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static("1001"))]);
        let endless = StreamBody::new(stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
        let refused = reader(&Memory::default()).read(&announced, endless).await;
        assert!(refused.is_err_and(|refusal| refusal.http == 413), "before it arrives");
    }

    #[tokio::test(start_paused = true)]
    async fn body_that_does_not_arrive_is_refused() {
        let silent = StreamBody::new(stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
        let refused = reader(&Memory::default()).read(&HeaderMap::new(), silent).await;
        assert!(refused.is_err_and(|refusal| refusal.http == 408));
    }
}

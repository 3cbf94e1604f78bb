//! The body of a request: read into memory within limits, and decompressed.

use std::collections::HashMap;
use std::io::Read as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use tokio::time::timeout;
use tonic::Code;

use crate::headers;
use crate::refusal::Refusal;

/// The limit for all bodies that are read at a time, in bytes.
const MAX_BYTES_BEING_READ: usize = 256 * 1024 * 1024;
/// What one client may have of it: bodies that do not arrive then leave room for those of others.
const SHARE: usize = MAX_BYTES_BEING_READ / 4;
/// The time in which a body has to arrive.
const ARRIVAL: Duration = Duration::from_secs(60);

/// Reads bodies.
pub(crate) struct Bodies {
    /// The largest body, in bytes, also after it is decompressed.
    most: usize,
    reading: Arc<Mutex<Reading>>,
}

/// The bytes of all bodies that are read.
#[derive(Default)]
struct Reading {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// Reads bodies of one client.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'b> {
    bodies: &'b Bodies,
    client: IpAddr,
}

impl Bodies {
    pub(crate) fn new(most: u64) -> Self {
        Self { most: usize::try_from(most).unwrap_or(usize::MAX), reading: Arc::default() }
    }

    /// The largest body, in bytes.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Reads bodies of a client.
    pub(crate) fn of(&self, client: IpAddr) -> Reader<'_> {
        Reader { bodies: self, client }
    }
}

impl Reader<'_> {
    /// Reads a body to its end.
    ///
    /// # Errors
    ///
    /// 413: it is too large. 415: its encoding is not known. 408: it did not arrive in time. 400: it broke off, or is not
    /// what its encoding says. 429: other bodies take the memory for them; the client may retry.
    pub(crate) async fn read<B>(&self, headers: &HeaderMap, body: B) -> Result<Bytes, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let gzip = match headers::text(headers, CONTENT_ENCODING).map(str::trim) {
            None | Some("" | "identity") => false,
            Some("gzip") => true,
            Some(_) => return Err(unknown_encoding()),
        };
        let announced = headers::text(headers, CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let bodies = self.bodies;
        if announced.is_some_and(|length: usize| length > bodies.most) {
            return Err(bodies.too_large());
        }
        let mut counted = Counted { reading: Arc::clone(&bodies.reading), client: self.client, bytes: 0 };
        let read = timeout(ARRIVAL, bodies.collect(body, &mut counted)).await.map_err(|_| late())??;
        if !gzip {
            return Ok(read);
        }
        let decompressed = bodies.decompress(&read)?;
        counted.add(decompressed.len())?;
        Ok(decompressed)
    }
}

impl Bodies {
    async fn collect<B>(&self, mut body: B, counted: &mut Counted) -> Result<Bytes, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let mut first = Bytes::new();
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| broken_off())?.into_data() else { continue };
            counted.add(data.len())?;
            if counted.bytes > self.most {
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

/// The bytes of one body among those of all.
struct Counted {
    reading: Arc<Mutex<Reading>>,
    client: IpAddr,
    bytes: usize,
}

impl Counted {
    fn add(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.bytes += bytes;
        let mut reading = lock(&self.reading);
        reading.all += bytes;
        let own = reading.by_client.entry(self.client).or_insert(0);
        *own += bytes;
        if *own <= SHARE && reading.all <= MAX_BYTES_BEING_READ {
            return Ok(());
        }
        let message = "other bodies take the memory for them; retry later";
        Err(Refusal::exhausted("OVERLOADED", message, Duration::from_secs(1)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut reading = lock(&self.reading);
        reading.all -= self.bytes;
        if let Some(own) = reading.by_client.get_mut(&self.client) {
            *own -= self.bytes;
            if *own == 0 {
                reading.by_client.remove(&self.client);
            }
        }
    }
}

fn lock(reading: &Mutex<Reading>) -> MutexGuard<'_, Reading> {
    reading.lock().unwrap_or_else(PoisonError::into_inner)
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
    use flate2::write::GzEncoder;
    use futures_util::stream;
    use http::HeaderValue;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};
    use std::io::Write as _;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn client_has_a_share_of_the_memory() {
        let reading: Arc<Mutex<Reading>> = Arc::default();
        let counted = |number| Counted { reading: Arc::clone(&reading), client: [10, 0, 0, number].into(), bytes: 0 };
        let mut greedy = counted(1);
        assert!(greedy.add(SHARE).is_ok() && counted(1).add(1).is_err(), "its share is taken");
        let mut others: Vec<_> = (2..5).map(counted).collect();
        assert!(others.iter_mut().all(|other| other.add(SHARE).is_ok()));
        assert!(counted(6).add(1).is_err(), "all is taken");
        drop(greedy);
        assert!(counted(6).add(1).is_ok());
        drop(others);
        assert!(lock(&reading).all == 0 && lock(&reading).by_client.is_empty());
    }

    fn headers(encoding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(encoding))])
    }

    async fn read(encoding: &'static str, body: impl Into<Bytes>) -> Result<Bytes, u16> {
        let bodies = Bodies::new(1000);
        let read = bodies.of(CLIENT).read(&headers(encoding), Full::new(body.into())).await;
        assert!(lock(&bodies.reading).all == 0 && lock(&bodies.reading).by_client.is_empty());
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
        assert_eq!(Bodies::new(1000).of(CLIENT).read(&HeaderMap::new(), body).await.map_err(|_| ()).unwrap(), "abcd");
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
        let refused = Bodies::new(1000).of(CLIENT).read(&announced, endless).await;
        assert!(refused.is_err_and(|refusal| refusal.http == 413), "before it arrives");
    }

    #[tokio::test(start_paused = true)]
    async fn body_that_does_not_arrive_is_refused() {
        let silent = StreamBody::new(stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
        let refused = Bodies::new(1000).of(CLIENT).read(&HeaderMap::new(), silent).await;
        assert!(refused.is_err_and(|refusal| refusal.http == 408));
    }
}

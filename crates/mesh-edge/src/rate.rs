//! What one client may use: requests in a second, and open streams.
//!
//! Guarantees: the table of clients is bounded. If it is full of active clients, those that are new share one rate.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Response};
use tokio::time::Instant;
use tonic::body::Body;

use crate::refusal::Refusal;
use crate::shares::{Share, Shares};

/// The clients that the table holds.
const CLIENTS: usize = 65_536;
/// How far a client may be ahead of its rate.
const WINDOW: Duration = Duration::from_secs(1);

/// The limits of each client.
pub(crate) struct Limiter {
    /// Requests in a second; `None`: any number.
    rate: Option<u32>,
    clients: Mutex<Clients>,
    /// The most open streams of a client.
    streams: usize,
    open: Arc<Shares>,
}

/// The clients of the last second.
#[derive(Default)]
struct Clients {
    /// Until when each has used its share.
    busy_until: HashMap<IpAddr, Instant>,
    /// When idle clients were last removed.
    swept: Option<Instant>,
}

impl Clients {
    /// Until when a client has used its share. New clients share one entry while the table is full.
    fn entry(&mut self, client: IpAddr, now: Instant) -> &mut Instant {
        let is_full = |clients: &HashMap<_, _>| clients.len() >= CLIENTS && !clients.contains_key(&client);
        // At most once a second: a sweep of a full table costs more than a request.
        if is_full(&self.busy_until) && self.swept.is_none_or(|swept| now - swept >= WINDOW) {
            self.busy_until.retain(|_, busy_until| *busy_until > now);
            self.swept = Some(now);
        }
        let key = if is_full(&self.busy_until) { Ipv6Addr::UNSPECIFIED.into() } else { client };
        self.busy_until.entry(key).or_insert(now)
    }
}

impl Limiter {
    pub(crate) fn new(rate: Option<u32>, streams: usize) -> Self {
        Self { rate, clients: Mutex::default(), streams, open: Shares::new(streams, usize::MAX) }
    }

    /// Counts a request, and returns how many more the client may send now.
    ///
    /// The generic cell rate algorithm: a request moves the client's time on by its share of a second, and that time
    /// may be a second ahead.
    ///
    /// # Errors
    ///
    /// 429: the client sends too many. It may retry after the time of `Retry-After`.
    pub(crate) fn request(&self, client: IpAddr) -> Result<Option<u32>, Refusal> {
        let Some(rate) = self.rate else { return Ok(None) };
        let (now, share) = (Instant::now(), WINDOW / rate);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let busy_until = clients.entry(client, now);
        let next = (*busy_until).max(now) + share;
        match (next - now).checked_sub(WINDOW) {
            Some(excess) if !excess.is_zero() => {
                let message = format!("a client may send {rate} requests a second; retry later");
                Err(Refusal::exhausted("RATE_LIMITED", message, excess))
            }
            _ => {
                *busy_until = next;
                let left = (WINDOW - (next - now)).as_nanos() / share.as_nanos();
                Ok(Some(u32::try_from(left).unwrap_or(rate)))
            }
        }
    }

    /// Says in the answer how many more requests a client may send
    /// ([draft](https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/)).
    pub(crate) fn announce(&self, left: u32, response: &mut Response<Body>) {
        let Some(rate) = self.rate else { return };
        let headers = response.headers_mut();
        for (name, value) in [
            ("ratelimit-policy", format!("\"client\";q={rate};w=1")),
            ("ratelimit", format!("\"client\";r={left};t=1")),
        ] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
    }

    /// Counts a stream until the result is dropped.
    ///
    /// # Errors
    ///
    /// 429: the client has too many. It may retry when another of its streams has ended.
    pub(crate) fn stream(&self, client: IpAddr) -> Result<Share, Refusal> {
        let mut open = self.open.of(client);
        if open.take(1) {
            return Ok(open);
        }
        let message = format!("a client may have {} open streams; close one first", self.streams);
        Err(Refusal::exhausted("TOO_MANY_STREAMS", message, Duration::from_secs(5)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    #[tokio::test(start_paused = true)]
    async fn rate_is_that_of_each_client() {
        let limiter = Limiter::new(Some(10), 1);
        let sent = |number| (0..100).take_while(|_| limiter.request(client(number)).is_ok()).count();
        assert_eq!((sent(1), sent(2)), (10, 10), "a second's worth at once");
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!(sent(1), 2);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(sent(1), 10);
        let refused = limiter.request(client(1)).err().unwrap();
        assert_eq!(refused.http, 429);
    }

    #[tokio::test(start_paused = true)]
    async fn table_of_clients_is_bounded() {
        let limiter = Limiter::new(Some(1), 1);
        for number in 0..100_000u32 {
            let _ = limiter.request(std::net::Ipv4Addr::from_bits(number).into());
        }
        assert!(limiter.clients.lock().unwrap().busy_until.len() <= CLIENTS + 1);
        assert!(limiter.request([1, 2, 3, 4].into()).is_err(), "new clients share a rate");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(limiter.request([1, 2, 3, 4].into()).is_ok(), "idle clients leave");
    }

    #[test]
    fn streams_of_a_client_are_bounded() {
        let limiter = Limiter::new(None, 2);
        let (first, _second) = (limiter.stream(client(1)).ok(), limiter.stream(client(1)).ok().unwrap());
        assert!(limiter.stream(client(1)).is_err() && limiter.stream(client(2)).is_ok());
        drop(first);
        assert!(limiter.stream(client(1)).is_ok());
        drop(_second);
        assert!(limiter.open.is_unused());
    }
}

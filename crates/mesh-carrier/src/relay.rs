//! Passes the events of a service on to a broker, under a lease.
//!
//! Guarantees:
//! - Of the processes with one database, one passes the events on. Another takes over 10 s after the last sign of it,
//!   and at once when it drains.
//! - A broker that is away or slow costs no call anything: the events wait in the log. What it has lost is sent again
//!   within seconds, also if nothing new is published.

use std::convert::Infallible;
use std::time::Duration;

use mesh_events::{Published, Reader};
use mesh_rpc::telemetry::{CarrierMetrics, Metrics};
use mesh_runtime::Backoff;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::carrier::{Carrier, Failure};
use super::lease::Lease;
use super::message::Message;
use super::place::{self, Start};
use super::seen::Seen;

/// The most events that are with the broker and not acknowledged.
const PAGE: i64 = 256;
/// The interval at which a process without the lease asks for it, with jitter.
const POLL: Duration = Duration::from_secs(1);
/// The interval at which an idle relay asks whether the broker has what it had.
const ASK: Duration = Duration::from_secs(1);
/// The pause after a failure.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// The relay of one service.
pub struct Relay<C> {
    published: Published,
    carrier: C,
    lease: Lease,
    seen: Seen,
    metrics: CarrierMetrics,
}

impl<C: Carrier> Relay<C> {
    /// A relay for what a service publishes.
    pub fn new(published: Published, carrier: C, metrics: &Metrics) -> Self {
        let (lease, metrics) = (Lease::new(published.store().clone()), metrics.carrier(published.service()));
        Self { published, carrier, lease, seen: Seen::default(), metrics }
    }

    /// Passes events on until `draining` is cancelled.
    pub async fn run(self, draining: CancellationToken) {
        let Self { published, mut carrier, lease, seen, metrics } = self;
        let service = published.service();
        tokio::select! {
            never = measure(&published, &seen, &metrics) => match never {},
            never = take_turns(&published, &mut carrier, &lease, &seen, &metrics) => match never {},
            () = draining.cancelled() => {}
        }
        if let Err(error) = lease.release().await {
            tracing::debug!(service, %error, "the next relay waits for the end of the lease");
        }
        metrics.remove();
    }
}

/// Sets the metrics.
async fn measure(published: &Published, seen: &Seen, metrics: &CarrierMetrics) -> Infallible {
    loop {
        match Reader::open(published.clone()).await {
            Ok(log) => match seen.measure(log, metrics).await {},
            // The database is away.
            Err(_) => sleep(POLL).await,
        }
    }
}

/// Passes events on while this process has the lease, and waits for it otherwise.
async fn take_turns<C: Carrier>(
    published: &Published,
    carrier: &mut C,
    lease: &Lease,
    seen: &Seen,
    metrics: &CarrierMetrics,
) -> Infallible {
    let (service, mut failing) = (published.service(), false);
    loop {
        let turn = async {
            Ok::<_, mesh_store::Error>(if lease.take().await? {
                Some(Reader::open(published.clone()).await?)
            } else {
                None
            })
        };
        match turn.await {
            Ok(None) => failing = false,
            Ok(Some(log)) => {
                failing = false;
                seen.begin();
                let turn = Turn { service, log, carrier, seen, metrics, failures: 0 };
                tokio::select! {
                    never = turn.pass_on() => match never {},
                    () = lease.keep() => {}
                }
                seen.end();
                tracing::warn!(service, "another process passes the events on now");
            }
            // One warning an outage, not one a poll.
            Err(error) if !std::mem::replace(&mut failing, true) => {
                tracing::warn!(service, %error, "cannot pass events on; every poll retries until it works");
            }
            Err(_) => {}
        }
        // Jitter, so that the processes of a database do not poll at the same moment.
        sleep(POLL.mul_f64(0.5 + fastrand::f64())).await;
    }
}

/// The time in which this process has the lease.
struct Turn<'a, C> {
    service: &'static str,
    log: Reader,
    carrier: &'a mut C,
    seen: &'a Seen,
    metrics: &'a CarrierMetrics,
    /// Failures since the broker last had everything, or took something.
    failures: u32,
}

impl<C: Carrier> Turn<'_, C> {
    /// Passes events on, with retries.
    async fn pass_on(mut self) -> Infallible {
        loop {
            let Err(error) = self.pass_on_from_the_last().await else { continue };
            self.failures += 1;
            // One warning an outage, not one an attempt.
            if self.failures == 1 {
                let service = self.service;
                tracing::warn!(service, %error, "the broker takes no events; the relay retries until it does");
            }
            sleep(BACKOFF.pause(self.failures)).await;
        }
    }

    /// Asks the broker for its last event, and passes on those behind it. Returns when it is time to ask again.
    async fn pass_on_from_the_last(&mut self) -> Result<(), Failure> {
        let last = self.carrier.last().await?;
        let mut position = match place::start(&mut self.log, last.as_ref()).await? {
            Start::Behind(position) => position,
            Start::Reset(position) => self.reset(position).await?,
        };
        self.seen.answer(position);
        loop {
            let events = self.log.behind(position, PAGE).await?;
            let (Some(first), Some(end)) = (events.first(), events.last().map(|event| event.position)) else {
                self.recover();
                tokio::select! {
                    () = self.log.changed() => continue,
                    () = sleep(ASK) => return Ok(()),
                }
            };
            if first.position != position + 1 {
                // They were deleted before the broker had them.
                return Ok(());
            }
            let (epoch, count) = (self.log.epoch(), events.len());
            let messages = events.into_iter().map(|event| Message::event(self.service, epoch, event)).collect();
            self.carrier.publish(messages).await?;
            self.metrics.published.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
            position = end;
            self.seen.answer(position);
            self.recover();
        }
    }

    /// Says in the stream that the events behind a position follow, whatever it had before.
    async fn reset(&mut self, position: i64) -> Result<i64, Failure> {
        let service = self.service;
        self.carrier.publish(vec![Message::reset(service, self.log.epoch(), position)]).await?;
        self.metrics.resets.inc();
        tracing::warn!(
            service,
            position,
            "the log does not continue what the broker has: the broker gets all of it again"
        );
        Ok(position)
    }

    fn recover(&mut self) {
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!(service = self.service, "the broker takes events again");
        }
    }
}

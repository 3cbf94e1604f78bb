//! What a relay knows of its broker, for the metrics.

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_events::Reader;
use mesh_rpc::telemetry::{CarrierLag, CarrierMetrics};
use mesh_store::{Error, now};
use tokio::time::{MissedTickBehavior, interval};

/// The interval at which the metrics are set.
const TICK: Duration = Duration::from_secs(1);

/// What a relay knows of its broker; nothing if another process has the lease.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Option<Sight>>);

#[derive(Clone, Copy, Debug)]
struct Sight {
    /// The position of the last event that the broker has; `None` before it was asked.
    position: Option<i64>,
    /// When the broker last answered, or when the relay began; in microseconds since 1970.
    answered: i64,
}

impl Seen {
    pub(super) fn begin(&self) {
        *self.lock() = Some(Sight { position: None, answered: now() });
    }

    pub(super) fn end(&self) {
        *self.lock() = None;
    }

    /// The broker has the events up to a position.
    pub(super) fn answer(&self, position: i64) {
        *self.lock() = Some(Sight { position: Some(position), answered: now() });
    }

    /// Sets the metrics, as long as this is polled.
    pub(super) async fn measure(&self, mut log: Reader, metrics: &CarrierMetrics) -> Infallible {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let sight = *self.lock();
            match sight {
                // A database that is away leaves the last values.
                Some(sight) => drop(sight.lag(&mut log).await.map(|lag| metrics.set(lag))),
                None => metrics.remove(),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Sight>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sight {
    async fn lag(self, log: &mut Reader) -> Result<CarrierLag, Error> {
        let answered = seconds_since(self.answered);
        let Some(position) = self.position else { return Ok(CarrierLag { behind: None, answered }) };
        let events = (log.end().await?.head - position).max(0);
        let oldest = log.behind(position, 1).await?.into_iter().next().and_then(|event| event.time);
        let micros = oldest.map(|time| time.seconds * 1_000_000 + i64::from(time.nanos) / 1000);
        Ok(CarrierLag { behind: Some((events, micros.map(seconds_since).unwrap_or_default())), answered })
    }
}

fn seconds_since(micros: i64) -> f64 {
    // A clock that went back makes no time negative.
    Duration::from_micros(u64::try_from(now() - micros).unwrap_or_default()).as_secs_f64()
}

//! What the holder of a lease knows of its source: for the metrics, and for operators.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_proto::mesh::events::v1::SubscribeResponse;
use mesh_proto::mesh::events::v1::subscribe_response::Frame;
use mesh_rpc::telemetry::{FollowMetrics, Lag};
use mesh_store::now;
use tokio::time::{MissedTickBehavior, interval};

use super::place::Place;

/// The interval at which the metrics are set.
const TICK: Duration = Duration::from_secs(1);

/// What is known of a source. Times are in microseconds since 1970, by the clock of this process.
#[derive(Clone, Debug, Default)]
pub(super) struct Sight {
    /// The position of the follower.
    pub(super) position: i64,
    /// The last position of the source.
    pub(super) head: i64,
    /// When the source last sent anything; 0 before the first frame.
    pub(super) heard: i64,
    /// The last failure; empty if there is none.
    pub(super) error: String,
    pub(super) parked: usize,
    /// When this process began to follow.
    began: i64,
    /// The time of the oldest event that was received and is not applied.
    behind: Option<i64>,
}

/// What the holder in this process knows; nothing if the holder is elsewhere. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<Option<Sight>>>);

impl Seen {
    /// What is known; `None` if this process has no lease.
    pub(super) fn sight(&self) -> Option<Sight> {
        self.lock().clone()
    }

    /// Begins at a place.
    pub(super) fn begin(&self, place: &Place, parked: usize) {
        let position = place.position.max(0);
        *self.lock() = Some(Sight { position, parked, head: position, began: now(), ..Sight::default() });
    }

    pub(super) fn end(&self) {
        *self.lock() = None;
    }

    /// The source has sent a frame.
    pub(super) fn hear(&self, head: i64) {
        self.edit(|sight| (sight.head, sight.heard) = (head, now()));
    }

    /// Frames were received that are to be applied.
    pub(super) fn receive(&self, frames: &[SubscribeResponse]) {
        let time = frames.iter().find_map(|response| match &response.frame {
            Some(Frame::Event(event)) => event.time.map(|time| time.seconds * 1_000_000 + i64::from(time.nanos) / 1000),
            _ => None,
        });
        self.edit(|sight| sight.behind = time.or(sight.behind).or_else(|| Some(now())));
    }

    /// Frames up to a place were applied.
    pub(super) fn apply(&self, place: &Place, parked: usize) {
        self.edit(|sight| {
            // The position is not known behind an empty snapshot, and nothing is outstanding then.
            let is_unknown = place.position < 0 && !place.is_building();
            (sight.position, sight.parked) = (if is_unknown { sight.head } else { place.position }, parked);
            sight.behind.take_if(|_| sight.position >= sight.head);
        });
    }

    /// The last failure, or an empty text.
    pub(super) fn fail(&self, error: &str) {
        self.edit(|sight| error.clone_into(&mut sight.error));
    }

    /// Sets the metrics, as long as this is polled.
    pub(super) async fn measure(&self, metrics: &FollowMetrics) -> Infallible {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.sight() {
                Some(sight) => metrics.set(sight.lag(now())),
                None => metrics.remove(),
            }
        }
    }

    fn edit(&self, edit: impl FnOnce(&mut Sight)) {
        if let Some(sight) = &mut *self.lock() {
            edit(sight);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Sight>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sight {
    /// What a holder has written of its source.
    pub(super) fn written(position: i64, head: i64, heard: i64, error: String) -> Self {
        Self { position, head, heard, error, ..Self::default() }
    }

    /// The lag at a time.
    fn lag(&self, now: i64) -> Lag {
        // A clock that went back makes no lag negative.
        let seconds = |since: i64| Duration::from_micros(u64::try_from(now - since).unwrap_or_default()).as_secs_f64();
        Lag {
            events: self.lag_events(),
            seconds: self.behind.map(seconds).unwrap_or_default(),
            heard: seconds(self.heard.max(self.began)),
            parked: i64::try_from(self.parked).unwrap_or(i64::MAX),
            connected: self.heard > 0 && self.error.is_empty(),
        }
    }

    /// The events of the source that are not applied.
    pub(super) fn lag_events(&self) -> i64 {
        (self.head - self.position.max(0)).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_proto::mesh::events::v1::Event;
    use mesh_store::timestamp;

    #[test]
    fn lag_counts_the_events_behind_and_the_age_of_the_oldest() {
        let seen = Seen::default();
        assert!(seen.sight().is_none(), "another process has the lease");
        let place = |position| Place { cursor: vec![1], position, generation: 1, whole: 1, attempt: 0, fence: 1 };
        seen.begin(&place(7), 0);
        seen.hear(10);
        let told = now() - 5_000_000;
        let event = Event { position: 8, time: Some(timestamp(told)), ..Event::default() };
        let frame = Some(Frame::Event(event));
        seen.receive(&[SubscribeResponse { cursor: Vec::new(), head: 10, frame }]);
        let sight = seen.sight().unwrap();
        let lag = sight.lag(told + 5_000_000);
        assert_eq!((lag.events, lag.seconds), (3, 5.0));
        seen.apply(&place(10), 2);
        let sight = seen.sight().unwrap();
        let lag = sight.lag(sight.heard + 3_000_000);
        assert_eq!(lag, Lag { events: 0, seconds: 0.0, heard: 3.0, parked: 2, connected: true });
        seen.fail("the source is away");
        assert!(!seen.sight().unwrap().lag(now()).connected);
        seen.receive(&[]);
        seen.apply(&place(-1), 0);
        let lag = seen.sight().unwrap().lag(now());
        assert_eq!((lag.events, lag.seconds), (0, 0.0), "an empty snapshot");
    }
}

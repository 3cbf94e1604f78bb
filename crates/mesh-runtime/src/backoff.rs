//! Exponential backoff with jitter.
//!
//! Jitter keeps callers that failed together from retrying together, see
//! [Exponential Backoff And Jitter](https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).

use std::ops::Range;
use std::time::Duration;

/// A pause that doubles with each failure in a row, up to a maximum.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    jitter: Range<f64>,
}

impl Backoff {
    /// The ceiling of a pause grows from `first` to `longest`. Full jitter: a pause is between 0 and its ceiling.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, jitter: 0.0..1.0 }
    }

    /// Sets the jitter: a pause is a random share of its ceiling in this range, such as `0.5..1.0` for at least half of
    /// it.
    #[must_use]
    pub const fn jitter(mut self, share: Range<f64>) -> Self {
        self.jitter = share;
        self
    }

    /// The pause after `failures` failures in a row, counted from 1.
    pub fn pause(&self, failures: u32) -> Duration {
        let Range { start, end } = self.jitter;
        self.ceiling(failures).mul_f64(start + (end - start) * fastrand::f64())
    }

    /// The longest pause after `failures` failures in a row.
    pub fn ceiling(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(30);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn ceiling_doubles_up_to_the_longest() {
        let backoff = Backoff::new(50 * MS, 1000 * MS);
        let ceilings = [0, 1, 2, 3, 6, 100].map(|failures| backoff.ceiling(failures).as_millis());
        assert_eq!(ceilings, [50, 50, 100, 200, 1000, 1000]);
    }

    #[test]
    fn pause_stays_within_its_share_of_the_ceiling() {
        let backoff = Backoff::new(50 * MS, 1000 * MS);
        let half = backoff.clone().jitter(0.5..1.0);
        for failures in 1..100 {
            let ceiling = backoff.ceiling(failures);
            assert!(backoff.pause(failures) <= ceiling);
            assert!((ceiling / 2..=ceiling).contains(&half.pause(failures)));
        }
        let pauses: std::collections::HashSet<_> = (0..10).map(|_| half.pause(9)).collect();
        assert!(pauses.len() > 1, "callers retry together");
    }
}

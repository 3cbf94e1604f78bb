//! The buckets of a histogram of times: log-linear, four an octave, from 1 µs to an hour.
//!
//! Guarantees: a time is within a quarter of its bucket's bounds, and histograms of several processes are added bucket
//! by bucket, so that quantiles of the sum are as near.

use std::time::Duration;

/// The number of buckets. The last one has no bound.
pub const BUCKETS: usize = 128;
/// The unit in which the bounds of all buckets are whole: a quarter of a microsecond.
const UNIT: u64 = 250;

/// The buckets whose bounds `/metrics` shows: near 0.1 ms, 0.5 ms, 1 ms and so on to 10 s.
pub(super) const SHOWN: [usize; 14] = [26, 36, 40, 45, 49, 53, 58, 62, 66, 72, 76, 80, 84, 93];

/// The bucket of a time in nanoseconds: that with the lowest bound above it.
pub(super) fn bucket(nanos: u64) -> usize {
    let units = nanos / UNIT;
    if units < 4 {
        return 0;
    }
    // The first three bits that are left of the highest one on: 100, 101, 110 and 111 are the four of an octave.
    let octave = units.ilog2() - 2;
    let quarter = (units >> octave) & 3;
    (octave as usize * 4 + quarter as usize + 1).min(BUCKETS - 1)
}

/// The bound of a bucket: its times are less. `None` for the last one.
pub(super) fn bound(number: usize) -> Option<Duration> {
    let (octave, quarter) = (number / 4, number % 4);
    (number < BUCKETS - 1).then(|| Duration::from_nanos((4 + quarter as u64) << octave).saturating_mul(UNIT as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_four_an_octave_from_a_microsecond() {
        let micros: Vec<_> = (0..9).map(|number| bound(number).unwrap().as_secs_f64() * 1e6).collect();
        assert_eq!(micros, [1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0]);
        assert!(bound(BUCKETS - 2).unwrap() > Duration::from_secs(3000) && bound(BUCKETS - 1).is_none());
        let shown: Vec<_> = SHOWN.iter().map(|number| bound(*number).unwrap().as_micros()).collect();
        let expected = [
            96, 512, 1024, 2560, 5120, 10_240, 24_576, 49_152, 98_304, 262_144, 524_288, 1_048_576, 2_097_152,
            10_485_760,
        ];
        assert_eq!(shown, expected);
    }

    /// The bucket by its definition: the first whose bound is above.
    fn naive(nanos: u64) -> usize {
        let above = |number: &usize| bound(*number).is_none_or(|bound| u128::from(nanos) < bound.as_nanos());
        (0..BUCKETS).find(above).unwrap()
    }

    #[test]
    fn bucket_of_a_time_is_the_first_whose_bound_is_above_it() {
        for number in 0..BUCKETS - 1 {
            let bound = u64::try_from(bound(number).unwrap().as_nanos()).unwrap();
            for nanos in [bound - 1, bound, bound + 1] {
                assert_eq!(bucket(nanos), naive(nanos), "{nanos} ns");
            }
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100_000 {
            // Each magnitude as often.
            let nanos = random.u64(..) >> random.u32(..64);
            assert_eq!(bucket(nanos), naive(nanos), "{nanos} ns");
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BUCKETS - 1));
    }
}

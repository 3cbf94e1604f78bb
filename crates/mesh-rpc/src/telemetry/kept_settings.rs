//! The settings of the calls that a process keeps: `dashboard.calls`, `dashboard.sample` and `dashboard.slow`.

use std::time::Duration;

use mesh_runtime::settings::{Key, Settings, parse};

/// Which calls a process keeps.
#[derive(Clone, Copy, Debug)]
pub struct KeepCalls {
    /// The most calls. 0 to 16384: a call takes 96 bytes.
    pub calls: usize,
    /// One trace in so many is kept although it went well. 0 to 1000000; 0: none.
    pub sample: u32,
    /// A call that takes as long is slow. 1 ms to 1 h.
    pub slow: Duration,
}

impl Default for KeepCalls {
    fn default() -> Self {
        // One second is where people begin to wait, and where the alert of slow calls begins.
        Self { calls: 4096, sample: 64, slow: Duration::from_secs(1) }
    }
}

impl KeepCalls {
    /// Reads `dashboard.calls`, `dashboard.sample` and `dashboard.slow`.
    pub fn take(settings: &mut Settings) -> Self {
        let default = Self::default();
        let calls = Key::new("dashboard.calls", "a number from 0 to 16384");
        let sample = Key::new("dashboard.sample", "a number from 0 to 1000000");
        let slow = Key::new("dashboard.slow", "a time from 1ms to 1h, such as 1s");
        let within = parse::time(Duration::from_millis(1), Duration::from_secs(3600));
        Self {
            calls: settings.take(&calls, default.calls, parse::number(0, 16_384)),
            sample: settings.take(&sample, default.sample, parse::number(0, 1_000_000)),
            slow: settings.take(&slow, default.slow, within),
        }
    }

    /// Whether a trace is one of the sample. All processes with the same setting choose the same traces.
    pub(super) fn samples(self, trace: u128) -> bool {
        // The last digits of a trace are random in every implementation.
        let random = u64::from(trace as u32);
        self.sample > 0 && (random * u64::from(self.sample)) >> 32 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_is_one_trace_in_so_many() {
        let sampled = |sample: u32| {
            let keep = KeepCalls { sample, ..KeepCalls::default() };
            let mut random = fastrand::Rng::with_seed(7);
            (0..100_000).filter(|_| keep.samples(random.u128(..))).count()
        };
        assert_eq!((sampled(0), sampled(1)), (0, 100_000));
        let of_64 = sampled(64);
        assert!((1400..1700).contains(&of_64), "{of_64}");
    }
}

//! The counters of an edge: each thread counts in a shard of its own, without a lock and without an instruction that
//! other cores wait for.
//!
//! Guarantees:
//! - A counter of a shard has one writer. Threads above [`OWN`] share the last shard, and count there with atomic
//!   additions.
//! - A shard exists from the first call that its thread counts.
//! - A reader that sees the end of a call, by its code, sees its time, and what its thread has written before.
//!
//! See: decision 0047.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::buckets::{BUCKETS, bucket};

/// The threads with a shard of their own.
const OWN: usize = 32;
/// The codes of gRPC.
pub const CODES: usize = 17;

/// What an edge has counted. Cheap while nothing is counted.
pub(super) struct Counters([OnceLock<Box<Shard>>; OWN + 1]);

/// The sums over all threads.
#[derive(Clone, Debug)]
pub struct Totals {
    /// The calls that have begun.
    pub begun: u64,
    /// The calls that have ended, by code.
    pub codes: [u64; CODES],
    /// The calls that have ended, by the bucket of their time.
    pub buckets: [u64; BUCKETS],
    /// The sum of their times, in nanoseconds.
    pub nanos: u64,
    /// The attempts after the first.
    pub retries: u64,
}

/// The counters of a thread. Those of two threads are on different cache lines.
#[repr(align(64))]
struct Shard {
    begun: AtomicU64,
    nanos: AtomicU64,
    retries: AtomicU64,
    codes: [AtomicU64; CODES],
    buckets: [AtomicU64; BUCKETS],
}

/// A shard, and whether this thread is its only writer.
struct Writer<'a> {
    shard: &'a Shard,
    only: bool,
}

impl Counters {
    pub(super) const fn new() -> Self {
        Self([const { OnceLock::new() }; OWN + 1])
    }

    /// Counts the begin of a call.
    pub(super) fn begin(&self) {
        let writer = self.writer();
        writer.add(&writer.shard.begun, 1);
    }

    /// Counts the end of a call.
    pub(super) fn end(&self, code: usize, nanos: u64) {
        let writer = self.writer();
        writer.add(&writer.shard.buckets[bucket(nanos)], 1);
        writer.add(&writer.shard.nanos, nanos);
        // Last. Every code of tonic is below; a later one is the code UNKNOWN.
        writer.add(writer.shard.codes.get(code).unwrap_or(&writer.shard.codes[2]), 1);
    }

    /// Counts an attempt after the first.
    pub(super) fn retry(&self) {
        let writer = self.writer();
        writer.add(&writer.shard.retries, 1);
    }

    /// The calls that have begun and ended, and the retries: another sum means that something was counted.
    pub(super) fn mark(&self) -> (u64, u64, u64) {
        let (mut ended, mut retries) = (0, 0);
        for shard in self.shards() {
            ended += shard.codes.iter().map(read).sum::<u64>();
            retries += read(&shard.retries);
        }
        (self.begun(), ended, retries)
    }

    /// The sums over all threads.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in self.shards() {
            totals.codes.iter_mut().zip(&shard.codes).for_each(|(sum, code)| *sum += read(code));
            totals.buckets.iter_mut().zip(&shard.buckets).for_each(|(sum, bucket)| *sum += read(bucket));
            totals.nanos = totals.nanos.wrapping_add(read(&shard.nanos));
            totals.retries += read(&shard.retries);
        }
        // Last: a call that ends meanwhile has begun.
        totals.begun = self.begun();
        totals
    }

    fn begun(&self) -> u64 {
        self.shards().map(|shard| read(&shard.begun)).sum()
    }

    fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.0.iter().filter_map(OnceLock::get).map(|shard| &**shard)
    }

    fn writer(&self) -> Writer<'_> {
        let number = Thread::number();
        Writer { shard: self.0[number].get_or_init(Box::default), only: number != OWN }
    }
}

impl Writer<'_> {
    fn add(&self, counter: &AtomicU64, more: u64) {
        if self.only {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Release);
        } else {
            counter.fetch_add(more, Ordering::Release);
        }
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Acquire)
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            begun: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            codes: [const { AtomicU64::new(0) }; CODES],
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

impl Totals {
    /// The calls that have ended.
    pub fn ended(&self) -> u64 {
        self.codes.iter().sum()
    }

    /// The calls in flight.
    pub fn in_flight(&self) -> u64 {
        self.begun.saturating_sub(self.ended())
    }

    /// Adds those of another edge.
    pub(super) fn add(&mut self, other: &Self) {
        self.begun += other.begun;
        self.codes.iter_mut().zip(&other.codes).for_each(|(sum, code)| *sum += code);
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, bucket)| *sum += bucket);
        self.nanos = self.nanos.wrapping_add(other.nanos);
        self.retries += other.retries;
    }
}

impl Default for Totals {
    fn default() -> Self {
        Self { begun: 0, codes: [0; CODES], buckets: [0; BUCKETS], nanos: 0, retries: 0 }
    }
}

/// The number of a thread, below [`OWN`] for the only thread that has it, until it ends; [`OWN`] for all others.
struct Thread(usize);

/// The numbers that no thread has: those that were given back, and all from the last one on.
struct Free {
    returned: Vec<usize>,
    next: usize,
}

static FREE: Mutex<Free> = Mutex::new(Free { returned: Vec::new(), next: 0 });

thread_local! {
    static THREAD: Thread = Thread::begin();
}

impl Thread {
    /// The number of this thread.
    fn number() -> usize {
        // A thread that ends has given its number back.
        THREAD.try_with(|thread| thread.0).unwrap_or(OWN)
    }

    fn begin() -> Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let number = free.returned.pop().unwrap_or_else(|| {
            let next = free.next;
            free.next = (next + 1).min(OWN);
            next
        });
        Self(number)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if self.0 != OWN {
            // The lock orders what this thread has written before what the next one reads.
            FREE.lock().unwrap_or_else(PoisonError::into_inner).returned.push(self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn counters_lose_nothing_between_more_threads_than_have_shards() {
        let counters = Counters::new();
        let count = || {
            for nanos in 0..1000 {
                counters.begin();
                counters.end(5, nanos);
                counters.retry();
            }
        };
        for _ in 0..3 {
            thread::scope(|scope| {
                for _ in 0..2 * OWN {
                    scope.spawn(count);
                }
            });
        }
        let (totals, calls) = (counters.totals(), 3 * 2 * OWN as u64 * 1000);
        assert_eq!((totals.begun, totals.codes[5], totals.retries, totals.in_flight()), (calls, calls, calls, 0));
        assert_eq!((totals.buckets[0], totals.nanos), (calls, calls / 1000 * (0..1000).sum::<u64>()));
        assert_eq!(counters.mark(), (calls, calls, calls));
    }

    #[test]
    fn counters_show_the_time_of_every_call_that_they_show() {
        let counters = Counters::new();
        let calls = 1_000_000;
        thread::scope(|scope| {
            scope.spawn(|| (0..calls).for_each(|_| counters.end(0, 1)));
            let mut ended = 0;
            while ended < calls {
                ended = counters.mark().1;
                let Totals { buckets, nanos, .. } = counters.totals();
                assert!(buckets[0] >= ended && nanos >= ended, "{ended} calls, {} and {nanos} times", buckets[0]);
            }
        });
    }

    #[test]
    fn call_that_ends_on_another_thread_is_not_in_flight() {
        let counters = Counters::new();
        counters.begin();
        assert_eq!(counters.totals().in_flight(), 1);
        thread::scope(|scope| _ = scope.spawn(|| counters.end(0, 1)));
        assert_eq!(counters.totals().in_flight(), 0);
    }
}

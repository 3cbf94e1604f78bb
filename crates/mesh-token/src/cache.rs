//! Results of checks, by the SHA-256 of the text that was checked.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use ring::digest;

/// A bounded cache whose entries end. Entries that are used stay. When it is full, the half that was not used for
/// longest leaves.
#[derive(Debug)]
pub struct Cache<V> {
    half: usize,
    halves: Mutex<Halves<V>>,
}

type Entries<V> = HashMap<[u8; 32], (V, SystemTime)>;

#[derive(Debug)]
struct Halves<V> {
    young: Entries<V>,
    old: Entries<V>,
}

impl<V: Clone> Cache<V> {
    /// At most `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        let halves = Halves { young: HashMap::new(), old: HashMap::new() };
        Self { half: capacity.div_ceil(2).max(1), halves: Mutex::new(halves) }
    }

    /// The value of this text, unless its time is over.
    pub fn get(&self, text: &str) -> Option<V> {
        let hash = hash(text);
        let mut halves = self.lock();
        if let Some(found) = halves.young.get(&hash) {
            return alive(found);
        }
        let moved = halves.old.remove(&hash)?;
        let value = alive(&moved)?;
        self.insert(&mut halves, hash, moved);
        Some(value)
    }

    /// Keeps a value until `until`.
    pub fn put(&self, text: &str, value: V, until: SystemTime) {
        let hash = hash(text);
        self.insert(&mut self.lock(), hash, (value, until));
    }

    fn insert(&self, halves: &mut Halves<V>, hash: [u8; 32], entry: (V, SystemTime)) {
        if halves.young.len() >= self.half {
            halves.old = mem::take(&mut halves.young);
        }
        halves.young.insert(hash, entry);
    }

    fn lock(&self) -> MutexGuard<'_, Halves<V>> {
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn alive<V: Clone>((value, until): &(V, SystemTime)) -> Option<V> {
    (SystemTime::now() < *until).then(|| value.clone())
}

fn hash(text: &str) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn cache_is_bounded_and_keeps_what_is_used() {
        let (cache, later) = (Cache::new(100), SystemTime::now() + Duration::from_secs(60));
        cache.put("used", 0, later);
        for n in 1..10_000 {
            cache.put(&n.to_string(), n, later);
            assert_eq!(cache.get("used"), Some(0));
        }
        let halves = cache.lock();
        assert!(halves.young.len() + halves.old.len() <= 100);
    }

    #[test]
    fn cache_forgets_what_has_ended() {
        let cache = Cache::new(10);
        cache.put("past", 1, SystemTime::now() - Duration::from_secs(1));
        cache.put("future", 2, SystemTime::now() + Duration::from_secs(60));
        assert_eq!((cache.get("past"), cache.get("future"), cache.get("never")), (None, Some(2), None));
    }
}

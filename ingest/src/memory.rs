//! What the journal thread remembers of recent frames: their digests, and the values behind recent counters.
//!
//! Bounded by number, the oldest forgotten first. What is forgotten is caught later: by the counter window, or by the
//! fold, which finds the readings there already.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use model::{Digest, MeterId, QuarantineReason};

/// What became of a frame that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Accepted, or repeated.
    Taken,
    /// Quarantined. A later copy may fare better, when its title is registered meanwhile.
    Quarantined(QuarantineReason),
}

/// A remembered frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Number of the batch it was in; durable once that batch is.
    pub(crate) batch: u64,
    pub(crate) class: Class,
}

/// Whose counter.
pub(crate) type CounterKey = (MeterId, u16, u32);

/// Digests of frames and values of counters. Frames in quarantine have a memory of their own: what strangers send cannot
/// make the genuine ones forgotten.
#[derive(Debug)]
pub(crate) struct Memory {
    taken: Bounded<Digest, Seen>,
    quarantined: Bounded<Digest, Seen>,
    values: Bounded<CounterKey, Digest>,
}

impl Memory {
    pub(crate) fn new(capacity: usize) -> Memory {
        Memory {
            taken: Bounded::new(capacity),
            quarantined: Bounded::new(capacity.div_ceil(4)),
            values: Bounded::new(capacity),
        }
    }

    pub(crate) fn frame(&self, digest: Digest) -> Option<Seen> {
        self.taken.get(&digest).or_else(|| self.quarantined.get(&digest)).copied()
    }

    pub(crate) fn remember_frame(&mut self, digest: Digest, seen: Seen) {
        match seen.class {
            Class::Taken => self.taken.insert(digest, seen),
            Class::Quarantined(_) => self.quarantined.insert(digest, seen),
        }
    }

    /// Digest of the values that came with a counter.
    pub(crate) fn values(&self, key: CounterKey) -> Option<Digest> {
        self.values.get(&key).copied()
    }

    pub(crate) fn remember_values(&mut self, key: CounterKey, values: Digest) {
        self.values.insert(key, values);
    }
}

/// A map that forgets its oldest key when it is full.
#[derive(Debug)]
struct Bounded<K, V> {
    capacity: usize,
    map: HashMap<K, V, Keyed>,
    order: VecDeque<K>,
}

/// Makes hashers under a key that was drawn at random, so that nobody can choose keys that meet in one place.
#[derive(Clone, Debug)]
struct Keyed {
    begin: u64,
    factor: u64,
}

impl Keyed {
    fn new() -> Keyed {
        let drawn = RandomState::new();
        Keyed { begin: drawn.hash_one(0_u8), factor: drawn.hash_one(1_u8) | 1 }
    }
}

impl BuildHasher for Keyed {
    type Hasher = KeyedHasher;

    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher { state: self.begin, factor: self.factor }
    }
}

/// Multiplies word by word and folds the two halves together: a fraction of what the standard hasher takes, for keys
/// that are digests and numbers.
struct KeyedHasher {
    state: u64,
    factor: u64,
}

impl Hasher for KeyedHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(u64::from(number));
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        let product = u128::from(self.state ^ number) * u128::from(self.factor);
        self.state = (product as u64) ^ ((product >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        // Once more, so that every bit of the last word reaches every bit.
        let product = u128::from(self.state) * u128::from(self.factor.rotate_left(32) | 1);
        (product as u64) ^ ((product >> 64) as u64)
    }
}

impl<K: Copy + Eq + Hash, V> Bounded<K, V> {
    fn new(capacity: usize) -> Bounded<K, V> {
        Bounded { capacity, map: HashMap::with_hasher(Keyed::new()), order: VecDeque::new() }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    fn insert(&mut self, key: K, value: V) {
        if self.map.insert(key, value).is_some() {
            return;
        }
        self.order.push_back(key);
        while self.map.len() > self.capacity {
            let Some(oldest) = self.order.pop_front() else { break };
            self.map.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first_and_the_bound_holds() {
        let mut memory = Memory::new(3);
        let digest = |number: u8| Digest([number; 16]);
        for number in 0..5 {
            memory.remember_frame(digest(number), Seen { batch: u64::from(number), class: Class::Taken });
        }
        let known: Vec<_> =
            (0..5).map(|number| memory.frame(digest(number)).map(|seen| seen.batch)).collect();
        assert_eq!(known, [None, None, Some(2), Some(3), Some(4)]);
        assert_eq!((memory.taken.map.len(), memory.taken.order.len()), (3, 3));
    }

    #[test]
    fn what_strangers_send_makes_nothing_genuine_forgotten() {
        let mut memory = Memory::new(4);
        memory.remember_frame(Digest([255; 16]), Seen { batch: 1, class: Class::Taken });
        let class = Class::Quarantined(QuarantineReason::TagMismatch);
        for number in 0..200 {
            memory.remember_frame(Digest([number; 16]), Seen { batch: 2, class });
        }
        assert_eq!(memory.frame(Digest([255; 16])).map(|seen| seen.class), Some(Class::Taken));
        assert_eq!(memory.quarantined.map.len(), 1);
    }

    #[test]
    fn keys_that_are_alike_are_spread_over_all_places() {
        let keyed = Keyed::new();
        let mut places = vec![0_u32; 1 << 12];
        for meter in 0..64_u32 {
            for counter in 0..1024_u32 {
                let hash = keyed.hash_one((MeterId(meter), 1_u16, counter));
                places[(hash % (1 << 12)) as usize] += 1;
                places[(hash >> 52) as usize] += 1;
            }
        }
        assert!(places.iter().all(|count| (4..96).contains(count)), "{:?}", places.iter().max());
    }

    #[test]
    fn a_frame_that_fares_better_is_remembered_so() {
        let mut memory = Memory::new(3);
        let unknown = Class::Quarantined(QuarantineReason::UnknownTitle);
        memory.remember_frame(Digest([1; 16]), Seen { batch: 1, class: unknown });
        memory.remember_frame(Digest([1; 16]), Seen { batch: 2, class: Class::Taken });
        assert_eq!(memory.frame(Digest([1; 16])), Some(Seen { batch: 2, class: Class::Taken }));
        assert_eq!((memory.taken.order.len(), memory.quarantined.order.len()), (1, 1));
    }
}
